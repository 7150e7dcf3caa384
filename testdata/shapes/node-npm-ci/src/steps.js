// A duration cut into equal parts, the longest first.
exports.steps = (whole, count) =>
  Array.from({ length: count }, (_, index) => (whole * (count - index)) / count);
