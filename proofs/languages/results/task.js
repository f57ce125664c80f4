// Results of the types that authors use. A row is chosen by its name.

class Money {
  #cents;
  currency = "EUR";
  constructor(cents) {
    this.#cents = cents;
  }
  get amount() {
    return this.#cents / 100;
  }
  toJSON() {
    return `${this.amount} ${this.currency}`;
  }
}

class Point {
  constructor(x, y) {
    this.x = x;
    this.y = y;
  }
}

function deep(levels) {
  let value = 1;
  for (let i = 0; i < levels; i++) value = [value];
  return value;
}

const circle = {};
circle.self = circle;

export const ROWS = {
  null: () => null,
  true: () => true,
  false: () => false,
  largest: () => Number.MAX_SAFE_INTEGER,
  smallest: () => Number.MIN_SAFE_INTEGER,
  double: () => 1.5,
  huge: () => 1e308,
  tiny: () => 5e-324,
  text: () => 'é😀 "\\/\n\u0000\u007f\u2028',
  "empty text": () => "",
  list: () => [1, "a", null, [true]],
  "empty list": () => [],
  object: () => ({ a: { b: [1] }, "": 1, "é b": 2 }),
  "empty object": () => ({}),
  deep: () => deep(300),
  long: () => "x".repeat(100_000),
  "not finite": () => [NaN, Infinity],
  undefined: () => undefined,
  function: () => () => 1,
  members: () => ({ a: undefined, b: () => 1, c: Symbol("s"), d: [undefined] }),
  date: () => new Date(0),
  "invalid date": () => [new Date(NaN)],
  class: () => new Point(1, 2),
  toJSON: () => [new Money(150)],
  map: () => new Map([["a", 1], [2, new Map([["b", new Set([1, "c"])]])]]),
  set: () => new Set([1, [2], { a: new Set() }]),
  "boxed": () => [new String("s"), new Number(1), new Boolean(false)],
  url: () => new URL("https://example.com/é"),
  "typed array": () => new Uint8Array([1, 2]),
  promise: async () => 5,
  "without a prototype": () => Object.assign(Object.create(null), { a: 1 }),
  "half a surrogate": () => "\ud800x",
  error: () => new Error("a field of an error is not enumerable"),
  regexp: () => /x/,
  bigint: () => 5n,
  circle: () => circle,
  getter: () => ({ get a() { throw new Error("from a getter"); } }),
};

export default ({ row }) => ROWS[row]();
