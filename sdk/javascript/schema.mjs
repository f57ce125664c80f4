// From the types of a task in TypeScript to the JSON Schema of its params and its result, by the project's own TypeScript.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

/** The tags of a comment that are keywords of a schema, and what their texts are. */
const TAGS = {
  minimum: Number, maximum: Number, exclusiveMinimum: Number, exclusiveMaximum: Number, multipleOf: Number,
  minLength: Number, maxLength: Number, minItems: Number, maxItems: Number,
  pattern: String, format: String, uniqueItems: () => true, deprecated: () => true, default: JSON.parse,
};

class Unsupported extends Error {}

/** The schemas of a task: an object with the keys `params` and `result`, as far as its types say something. `undefined` if the project
 * has no TypeScript. A type that no JSON value has is an `Error`. */
export function schemasOf(task, project) {
  let ts;
  try {
    ts = createRequire(join(project, "package.json"))("typescript");
  } catch {
    return undefined;
  }
  const file = resolve(project, task);
  const program = ts.createProgram([file], optionsOf(ts, project));
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(file);
  const module = source && checker.getSymbolAtLocation(source);
  const exported = module && checker.getExportsOfModule(module).find(({ name }) => name === "default");
  const [signature] = exported ? checker.getSignaturesOfType(checker.getTypeOfSymbolAtLocation(exported, source), ts.SignatureKind.Call) : [];
  if (!signature) return undefined;
  const schemas = {};
  const [first] = signature.getParameters();
  if (first) {
    const params = whole(new Types(ts, program, checker), checker.getTypeOfSymbolAtLocation(first, source));
    if (Object.keys(params).length) schemas.params = params;
  }
  try {
    const returned = signature.getReturnType();
    const result = whole(new Types(ts, program, checker), checker.getAwaitedType(returned) ?? returned);
    if (Object.keys(result).length) schemas.result = result;
  } catch (error) {
    // A result may be anything that can be written as JSON.
    if (!(error instanceof Unsupported)) throw error;
  }
  return schemas;
}

function optionsOf(ts, project) {
  const path = join(project, "tsconfig.json");
  const read = existsSync(path) ? ts.readConfigFile(path, ts.sys.readFile).config : undefined;
  const own = read ? ts.parseJsonConfigFileContent(read, ts.sys, project).options : {};
  const found = { target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, ...own };
  // Without it, null and undefined are no types.
  return { ...found, noEmit: true, strictNullChecks: true };
}

function whole(types, type) {
  let schema = types.of(type);
  const name = schema.$ref?.slice("#/$defs/".length);
  // A type that stands at the top alone needs no definition of its own.
  if (name && Object.keys(schema).length === 1 && !JSON.stringify(types.definitions).includes(`"${schema.$ref}"`)) {
    schema = types.definitions[name];
    delete types.definitions[name];
  }
  return Object.keys(types.definitions).length ? { ...schema, $defs: types.definitions } : schema;
}

class Types {
  constructor(ts, program, checker) {
    Object.assign(this, { ts, program, checker, definitions: {}, names: new Map(), open: new Set(), path: ["params"] });
  }

  /** The schema of the values of a type. */
  of(type) {
    const { ts, checker } = this;
    const is = (flags) => (type.flags & flags) !== 0;
    if (is(ts.TypeFlags.Any | ts.TypeFlags.Unknown)) return {};
    if (type.isUnion()) return this.defined(type, type.aliasSymbol, () => this.union(type));
    if (type.isStringLiteral() || type.isNumberLiteral()) return { const: type.value };
    if (is(ts.TypeFlags.BooleanLiteral)) return { const: type.intrinsicName === "true" };
    if (is(ts.TypeFlags.StringLike)) return { type: "string" };
    if (is(ts.TypeFlags.NumberLike)) return { type: "number" };
    if (is(ts.TypeFlags.BooleanLike)) return { type: "boolean" };
    if (is(ts.TypeFlags.Null)) return { type: "null" };
    // A task that returns nothing returns null.
    if (is(ts.TypeFlags.Undefined | ts.TypeFlags.Void)) return { type: "null" };
    if (is(ts.TypeFlags.NonPrimitive)) return { type: ["object", "array"] };
    if (is(ts.TypeFlags.Never)) throw this.unsupported(type);
    // A text with a brand, for example, is a text.
    const primitive = ts.TypeFlags.StringLike | ts.TypeFlags.NumberLike | ts.TypeFlags.BooleanLike;
    const plain = type.isIntersection() && type.types.find((each) => each.flags & primitive);
    if (plain) return this.of(plain);
    if (checker.isTupleType(type)) return this.tuple(type);
    if (checker.isArrayType(type)) return this.array(checker.getTypeArguments(type)[0]);
    if (!is(ts.TypeFlags.Object | ts.TypeFlags.Intersection)) {
      // A type parameter, for example, is what it extends.
      const base = checker.getBaseConstraintOfType(type);
      if (base && base !== type) return this.of(base);
      throw this.unsupported(type);
    }
    const { symbol } = type;
    const isNamed = symbol && (symbol.flags & (ts.SymbolFlags.Interface | ts.SymbolFlags.Class)) !== 0;
    const isBuiltIn = isNamed && symbol.declarations?.some((each) => this.program.isSourceFileDefaultLibrary(each.getSourceFile()));
    if (isBuiltIn || checker.getSignaturesOfType(type, ts.SignatureKind.Call).length) throw this.unsupported(type);
    return this.defined(type, type.aliasSymbol ?? (isNamed ? symbol : undefined), () => this.object(type));
  }

  unsupported(type) {
    const name = this.checker.typeToString(type);
    return new Unsupported(`${this.path.join(".")}: no JSON value has the type ${name}`);
  }

  /** A reference to the definition of a type with a name, which is made if it is not there. */
  defined(type, symbol, make) {
    if (!symbol || symbol.name.startsWith("__")) return make();
    // `Partial<T>` and alike have no definition, unless one refers to itself.
    if (this.isOfLibrary(symbol) && !this.names.has(type)) {
      if (!this.open.has(type)) {
        this.open.add(type);
        const made = make();
        this.open.delete(type);
        const name = this.names.get(type);
        if (!name) return made;
        this.definitions[name] = made;
        return { $ref: `#/$defs/${name}` };
      }
      let { name } = symbol;
      while (Object.hasOwn(this.definitions, name)) name += "_";
      this.names.set(type, name);
      this.definitions[name] = {};
    }
    if (!this.names.has(type)) {
      let { name } = symbol;
      while (Object.hasOwn(this.definitions, name)) name += "_";
      this.names.set(type, name);
      // It may refer to itself.
      this.definitions[name] = {};
      this.definitions[name] = { ...this.described(symbol), ...make() };
    }
    return { $ref: `#/$defs/${this.names.get(type)}` };
  }

  /** Whether it is one such as `Record` or `Partial`. */
  isOfLibrary(symbol) {
    return symbol.declarations?.some((each) => this.program.isSourceFileDefaultLibrary(each.getSourceFile())) ?? false;
  }

  union(type) {
    const { ts } = this;
    const parts = type.types.filter((each) => !(each.flags & (ts.TypeFlags.Undefined | ts.TypeFlags.Void)));
    const isBoolean = (each) => (each.flags & ts.TypeFlags.BooleanLiteral) !== 0;
    const schemas = parts.filter((each) => !isBoolean(each)).map((each) => this.of(each));
    const booleans = parts.filter(isBoolean);
    if (booleans.length === 2) schemas.push({ type: "boolean" });
    else booleans.forEach((each) => schemas.push(this.of(each)));
    const values = schemas.filter((each) => Object.hasOwn(each, "const"));
    const others = schemas.filter((each) => !Object.hasOwn(each, "const"));
    if (values.length) others.unshift(values.length === 1 ? values[0] : { enum: values.map((each) => each.const) });
    if (others.length === 1) return others[0];
    if (others.some((each) => Object.keys(each).length === 0)) return {};
    const plain = others.every((each) => Object.keys(each).length === 1 && typeof each.type === "string");
    return plain ? { type: [...new Set(others.map((each) => each.type))] } : { anyOf: others };
  }

  array(element) {
    const items = element ? this.of(element) : {};
    return { type: "array", ...(Object.keys(items).length ? { items } : {}) };
  }

  tuple(type) {
    const { ts, checker } = this;
    const flags = type.target.elementFlags;
    const schema = { type: "array", prefixItems: [], minItems: flags.filter((flag) => flag & ts.ElementFlags.Required).length };
    const parts = checker.getTypeArguments(type);
    const rest = flags.findIndex((flag) => flag & ts.ElementFlags.Variable);
    const fixed = rest < 0 ? parts : parts.slice(0, rest);
    schema.prefixItems = fixed.map((each) => this.of(each));
    if (!schema.prefixItems.length) delete schema.prefixItems;
    if (rest < 0) return { ...schema, maxItems: parts.length };
    // Behind the rest, the places are not known.
    return rest === parts.length - 1 ? { ...schema, items: this.of(parts[rest]) } : schema;
  }

  object(type) {
    const { ts, checker } = this;
    const schema = { type: "object" };
    const properties = {};
    const required = [];
    for (const property of checker.getPropertiesOfType(type)) {
      const { name } = property;
      // The name of a symbol, which no JSON has.
      if (name.startsWith("__@")) continue;
      this.path.push(name);
      const found = checker.getTypeOfSymbol(property);
      const parts = found.isUnion() ? found.types : [found];
      const isOptional = (property.flags & ts.SymbolFlags.Optional) !== 0 || parts.some((each) => each.flags & ts.TypeFlags.Undefined);
      properties[name] = this.tagged(property, this.of(found));
      if (!isOptional) required.push(name);
      this.path.pop();
    }
    if (Object.keys(properties).length) schema.properties = properties;
    if (required.length) schema.required = required;
    const index = checker.getIndexInfosOfType(type).find(({ keyType }) => keyType.flags & ts.TypeFlags.StringLike);
    if (index) {
      const values = this.of(index.type);
      if (Object.keys(values).length) schema.additionalProperties = values;
    }
    return schema;
  }

  described(symbol) {
    const text = this.ts.displayPartsToString(symbol.getDocumentationComment(this.checker)).trim();
    return text ? { description: text } : {};
  }

  /** A schema with what the comment of its property says. */
  tagged(symbol, schema) {
    const found = { ...schema, ...this.described(symbol) };
    for (const tag of symbol.getJsDocTags(this.checker)) {
      const text = this.ts.displayPartsToString(tag.text).trim();
      if (tag.name === "asType" && text === "integer") {
        const whole = (each) => (each === "number" ? "integer" : each);
        if (found.type === "array" && found.items) found.items = { ...found.items, type: whole(found.items.type) };
        else if (found.type) found.type = Array.isArray(found.type) ? found.type.map(whole) : whole(found.type);
      } else if (Object.hasOwn(TAGS, tag.name)) {
        try {
          found[tag.name] = text === "" && TAGS[tag.name] === Number ? NaN : TAGS[tag.name](text);
        } catch {
          throw new Error(`${this.path.join(".")}: the tag @${tag.name} has no JSON value: ${text}`);
        }
        if (Number.isNaN(found[tag.name])) throw new Error(`${this.path.join(".")}: the tag @${tag.name} has no number: ${text}`);
      }
    }
    return found;
  }
}
