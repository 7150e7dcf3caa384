// Puts what is in `src` into `dist`, without its comments.
const fs = require("node:fs");
const colors = require("picocolors");

fs.mkdirSync("dist", { recursive: true });
for (const name of fs.readdirSync("src")) {
  const text = fs.readFileSync(`src/${name}`, "utf8");
  fs.writeFileSync(`dist/${name}`, text.replace(/^\/\/.*\n/gm, ""));
  console.log(colors.green("built"), name);
}
