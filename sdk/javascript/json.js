// JSON as tasks write it: for results, for params of children, and for the bodies of requests.

// JSON.stringify writes a Map and a Set as an empty object, which would lose their content.
const MORE = [
  [Map.prototype, function () { return Object.fromEntries(this); }],
  [Set.prototype, function () { return [...this]; }],
];

/**
 * A value as JSON text, as JSON.stringify writes it, with two more types: a Map is written as an object, and a Set as an
 * array. A toJSON method of the task's own counts more.
 */
export function toJson(value) {
  // Not a replacer, because JSON.stringify gets not half as deep with one.
  const added = MORE.filter(([prototype]) => Object.isExtensible(prototype) && !Object.hasOwn(prototype, "toJSON"));
  for (const [prototype, toJSON] of added) {
    Object.defineProperty(prototype, "toJSON", { value: toJSON, configurable: true, writable: true });
  }
  try {
    return JSON.stringify(value);
  } finally {
    for (const [prototype] of added) delete prototype.toJSON;
  }
}
