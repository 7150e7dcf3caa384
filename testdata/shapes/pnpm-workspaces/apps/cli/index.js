const ms = require("ms");
const { greet } = require("greeting");

const wait = ms(process.argv[2]);
console.log(greet(`whoever waits ${ms(wait, { long: true })}`));
