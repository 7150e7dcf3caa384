exports.greet = (name) => `Good evening, ${name}!`;
