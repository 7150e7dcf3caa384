// Counts down from a duration in words.
const ms = require("ms");
const { steps } = require("./steps.js");

for (const step of steps(ms("2 minutes"), 3)) {
  console.log(ms(step, { long: true }));
}
