// Makes tests/data/grammar/schemas.jsonl and masks.jsonl: what independent programs say of texts and tokens.
//
//   npm install --prefix build/oracle @mlc-ai/web-xgrammar@0.1.27 ajv@8.17.1 ajv-formats@3.0.1
//   node tests/oracle/make_grammar_cases.mjs build/oracle tests/data/grammar
//
// schemas.jsonl, a line for each schema: {"schema", "texts": [[text, oracle, standard], ...]}: whether xgrammar's
// grammar of the schema accepts the text (null: xgrammar refuses the schema), and whether ajv, a validator of the
// standard, finds it valid. The two differ where a grammar is looser or stricter than the standard; the test
// follows the standard (src/grammar/oracle_test.cpp).
// masks.jsonl, a line for each grammar in GBNF: {"grammar", "steps": [[tokens so far, tokens allowed next], ...]},
// by xgrammar. The vocabulary is the first line: {"tokens"}; the last of them ends the text. Where its mask and
// what it accepts byte by byte disagree (it leaves out tokens that go beyond the end of a rule that calls itself),
// the latter counts; how often is printed. Characters beyond ASCII are left out: this build of it misreads them.
// The same seed makes the same files.
import { createRequire } from "node:module";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";

const [, , modules, out] = process.argv;
const require = createRequire(resolve(modules, "package.json"));
// The package says it is a module, but is none.
const copy = resolve(modules, "xgrammar.cjs");
copyFileSync(resolve(modules, "node_modules/@mlc-ai/web-xgrammar/lib/index.js"), copy);
const xgr = require(copy);
const Ajv = require("ajv/dist/2020.js").default;
const formats = require("ajv-formats").default;
const ajv = formats(new Ajv({ strict: false, allErrors: false }), { mode: "full" });

let state = 20260101;
const random = () => {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};
const below = (n) => Math.floor(random() * n);
const pick = (list) => list[below(list.length)];
const chance = (p) => random() < p;

const WORDS = ["a", "b", "name", "id", "city", "ab", "nam", "x1", "größe", "q\"t", "tab\there", "", "日本"];

// ---- random schemas

function randomSchema(depth) {
  const kinds = ["string", "string", "integer", "number", "boolean", "null", "enum", "const"];
  if (depth > 0) kinds.push("object", "object", "object", "array", "array", "anyOf", "types", "allOf", "map", "tuple");
  switch (pick(kinds)) {
    case "string": {
      const s = { type: "string" };
      if (chance(0.3)) s.minLength = below(4);
      if (chance(0.3)) s.maxLength = (s.minLength ?? 0) + below(5);
      else if (chance(0.3)) s.pattern = pick(["^[a-z]+$", "^\\d{3}-\\d{2}$", "^(yes|no)$", "a", "^x", "z$", "^[^0-9]*$", "^\\w+@\\w+\\.[a-z]{2,}$"]);
      else if (chance(0.2)) s.format = pick(["date", "uuid", "ipv4", "email", "date-time", "time", "hostname", "ipv6"]);
      return s;
    }
    case "integer": return bounds({ type: "integer" }, () => below(300) - 120);
    case "number": return bounds({ type: "number" }, () => pick([0, 1, -1, 0.5, 2.25, -3.75, 10, 100.125, -0.01]));
    case "boolean": return { type: "boolean" };
    case "null": return { type: "null" };
    case "enum": return { enum: [pick(WORDS), below(10), pick([true, null, "z", 1.5])].slice(0, 1 + below(3)) };
    case "const": return { const: pick([...WORDS, 5, false, null, [1, "a"], { k: 1 }]) };
    case "types": return { type: pick([["string", "null"], ["integer", "string"], ["boolean", "null", "number"]]) };
    case "array": {
      const s = { type: "array", items: randomSchema(depth - 1) };
      if (chance(0.4)) s.minItems = below(3);
      if (chance(0.4)) s.maxItems = (s.minItems ?? 0) + below(3);
      return s;
    }
    case "tuple": return { type: "array", prefixItems: [randomSchema(depth - 1), randomSchema(0)], items: pick([false, { type: "integer" }]), minItems: 2 };
    case "anyOf": return { anyOf: [randomSchema(depth - 1), randomSchema(depth - 1)] };
    case "map": return { type: "object", additionalProperties: randomSchema(depth - 1) };
    case "allOf": {
      const one = randomObject(0), other = randomObject(0);
      delete one.additionalProperties; delete other.additionalProperties;
      return { allOf: [one, other] };
    }
    default: return randomObject(depth);
  }
}
function bounds(s, value) {
  if (chance(0.4)) s[chance(0.7) ? "minimum" : "exclusiveMinimum"] = value();
  if (chance(0.4)) s[chance(0.7) ? "maximum" : "exclusiveMaximum"] = (s.minimum ?? s.exclusiveMinimum ?? -5) + pick([0, 1, 7, 15, 130]);
  return s;
}
function randomObject(depth) {
  const s = { type: "object", properties: {}, required: [] };
  const keys = ["name", "id", "city", "a", "größe", "nam"].sort(() => random() - 0.5).slice(0, 1 + below(4));
  for (const key of keys) {
    s.properties[key] = randomSchema(depth - 1);
    if (chance(0.5)) s.required.push(key);
  }
  if (chance(0.5)) s.additionalProperties = pick([false, false, true, { type: "integer" }]);
  return s;
}

// ---- values that fit a schema more or less

function instance(s, root, depth = 0) {
  if (s === true || depth > 8) return pick([1, "a", null, [], {}]);
  if (s === false) return null;
  if (s.$ref) return instance(s.$ref.split("/").slice(1).reduce((at, k) => at[k], root), root, depth + 1);
  if (s.allOf) return Object.assign({}, ...s.allOf.map((one) => instance(one, root, depth + 1)), s.properties ? instance({ ...s, allOf: undefined }, root, depth + 1) : {});
  if (s.anyOf || s.oneOf) {
    const one = instance(pick(s.anyOf ?? s.oneOf), root, depth + 1);
    return s.properties ? Object.assign(instance({ ...s, anyOf: undefined, oneOf: undefined }, root, depth + 1), one) : one;
  }
  if ("const" in s) return s.const;
  if (s.enum) return pick(s.enum);
  let type = Array.isArray(s.type) ? pick(s.type) : s.type;
  type ??= s.properties || s.additionalProperties || s.required ? "object" : s.items || s.prefixItems ? "array" : s.pattern || s.format || s.minLength ? "string" : s.minimum !== undefined ? "number" : "string";
  switch (type) {
    case "null": return null;
    case "boolean": return chance(0.5);
    case "integer": case "number": {
      const low = s.minimum ?? s.exclusiveMinimum ?? (s.maximum ?? s.exclusiveMaximum ?? 20) - 20;
      const high = s.maximum ?? s.exclusiveMaximum ?? low + 20;
      const at = pick([low, high, low + (high - low) * random(), low + 1, high - 1]);
      return type === "integer" ? Math.round(at) : chance(0.3) ? at : Math.round(at * 100) / 100;
    }
    case "string": return text(s);
    case "array": {
      const list = (s.prefixItems ?? []).map((one) => instance(one, root, depth + 1));
      const n = (s.minItems ?? 0) + below(3);
      while (list.length < n && s.items !== false) list.push(instance(s.items ?? true, root, depth + 1));
      return list;
    }
    default: {
      const value = {};
      for (const [key, one] of Object.entries(s.properties ?? {}))
        if ((s.required ?? []).includes(key) || chance(0.5)) value[key] = instance(one, root, depth + 1);
      if ((s.additionalProperties ?? (s.properties ? false : true)) !== false && chance(0.6))
        value[pick(["more", "x", "na"])] = instance(s.additionalProperties ?? true, root, depth + 1);
      return value;
    }
  }
}
function text(s) {
  if (s.format) return pick({
    date: ["2024-02-29", "2023-02-29", "1999-12-31", "2020-13-01", "2020-04-31", "20-1-1"],
    time: ["12:30:00Z", "23:59:59.25+02:00", "24:00:00Z", "12:30"],
    "date-time": ["2024-01-31T00:00:00Z", "2024-06-31T00:00:00Z", "2000-02-29T23:59:59.123-08:00", "2024-01-01"],
    uuid: ["123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456-42661417400", "g23e4567-e89b-12d3-a456-426614174000"],
    ipv4: ["192.168.0.1", "256.1.1.1", "1.2.3", "255.255.255.255"],
    ipv6: ["::1", "2001:db8::ff00:42:8329", "1:2:3:4:5:6:7:8", ":::", "12345::", "::ffff:1.2.3.4"],
    email: ["a@b.c", "a.b+c@example.org", "a@", "@b.c", "a b@c.d"],
    hostname: ["example.com", "a-b.c", "-a.b", "a..b"],
    uri: ["https://example.org/a?b=c#d", "mailto:a@b.c", "no uri", "http://[::1]:80/", "a:b", "/path"],
    duration: ["P1D", "PT1H30M", "P2W", "P", "P1Y2M3DT4H5M6S", "1D"],
  }[s.format] ?? ["a"]);
  if (s.pattern) return pick({
    "^[a-z]+$": ["abc", "", "aBc", "z"], "^\\d{3}-\\d{2}$": ["123-45", "12-345", "1234-56"], "^(yes|no)$": ["yes", "no", "maybe"],
    a: ["a", "bab", "xyz"], "^x": ["x", "xyz", "yx"], z$: ["z", "az", "za"], "^[^0-9]*$": ["", "ab c", "a1"],
    "^\\w+@\\w+\\.[a-z]{2,}$": ["a@b.de", "a_b@c.d", "a@b.cde"],
  }[s.pattern] ?? ["a", "b", ""]);
  const n = pick([s.minLength ?? 0, s.maxLength ?? 3, (s.maxLength ?? 3) + 1, Math.max(0, (s.minLength ?? 1) - 1), 2]);
  const letters = ["a", "b", "ä", "語", "😀", " ", "\n", "\"", "\\"];
  return Array.from({ length: n }, () => pick(letters)).join("");
}
function mutate(value) {
  if (chance(0.15)) return pick([null, "a", 3, 2.5, true, [], {}, -1]);
  if (Array.isArray(value)) {
    const list = [...value];
    if (list.length === 0 || chance(0.3)) list.push(pick([1, "a", null]));
    else if (chance(0.4)) list.pop();
    else { const i = below(list.length); list[i] = mutate(list[i]); }
    return list;
  }
  if (value !== null && typeof value === "object") {
    const copy = { ...value };
    const keys = Object.keys(copy);
    if (keys.length === 0 || chance(0.25)) copy[pick(["extra", "name", "zz"])] = pick([1, "a", true]);
    else if (chance(0.4)) delete copy[pick(keys)];
    else { const key = pick(keys); copy[key] = mutate(copy[key]); }
    return copy;
  }
  if (typeof value === "number") return value + pick([1, -1, 0.5, 1000, -1000]);
  if (typeof value === "string") return pick([value + "x", value.slice(1), value + "1", ""]);
  return pick(["true", 0, null]);
}
// As Python's json.dumps, or compact, or indented.
function write(value) {
  const style = below(4);
  if (style === 0) return JSON.stringify(value, null, 2);
  const [comma, colon] = style === 1 ? [", ", ": "] : [",", ":"];
  const go = (v) =>
    Array.isArray(v) ? `[${v.map(go).join(comma)}]`
      : v !== null && typeof v === "object" ? `{${Object.entries(v).map(([k, x]) => JSON.stringify(k) + colon + go(x)).join(comma)}}`
        : JSON.stringify(v);
  return go(value);
}

const FIXED = [
  ...["date", "time", "date-time", "uuid", "ipv4", "ipv6", "email", "hostname", "uri", "duration"].map((format) => ({ type: "string", format })),
  {}, true, { type: "object" }, { type: "array" }, { type: ["object", "array"] },
  { type: "object", properties: {}, additionalProperties: false },
  { type: "integer", minimum: 0 }, { type: "integer", maximum: -5 }, { type: "integer", minimum: -3, maximum: 12 },
  { type: "integer", exclusiveMinimum: 0, exclusiveMaximum: 10 }, { type: "integer", minimum: 99, maximum: 1001 },
  { type: "integer", minimum: 2147483647, maximum: 4294967296 }, { type: "number", minimum: 0, maximum: 1 },
  { type: "number", exclusiveMinimum: 0 }, { type: "number", minimum: -1.5, exclusiveMaximum: 2.75 }, { type: "number", maximum: 0.1 },
  { type: "string", minLength: 2, maxLength: 4 }, { type: "string", maxLength: 0 }, { type: "string", minLength: 1 },
  { type: "string", pattern: "^a{2,3}(b|c)?$" }, { type: "string", pattern: "^[\\w.-]+$" }, { type: "string", pattern: "foo|^bar" },
  { enum: ["red", "green", "blue"] }, { enum: [1, 2.5, "1", null, true] }, { const: { a: [1, { b: "c" }] } },
  { type: "string", enum: ["a", "b\"c", "d\\e", "\n"] }, { const: "größe 😀" },
  { anyOf: [{ type: "string" }, { type: "integer" }] }, { anyOf: [{ type: "object", properties: { a: { type: "integer" } }, required: ["a"] }, { type: "null" }] },
  { oneOf: [{ type: "object", properties: { kind: { const: "x" }, v: { type: "integer" } }, required: ["kind"] }, { type: "object", properties: { kind: { const: "y" }, w: { type: "string" } }, required: ["kind", "w"] }] },
  { oneOf: [{ type: "string", maxLength: 2 }, { type: "integer" }] },
  { allOf: [{ type: "object", properties: { a: { type: "integer" } }, required: ["a"] }, { type: "object", properties: { b: { type: "string" } } }] },
  { allOf: [{ type: "integer", minimum: 3 }, { maximum: 8 }] },
  { $defs: { node: { type: "object", properties: { v: { type: "integer" }, next: { anyOf: [{ $ref: "#/$defs/node" }, { type: "null" }] } }, required: ["v", "next"] } }, $ref: "#/$defs/node" },
  { type: "object", properties: { name: { type: "string" }, children: { type: "array", items: { $ref: "#" } } }, required: ["name"] },
  { definitions: { p: { type: "integer", minimum: 1 } }, type: "array", items: { $ref: "#/definitions/p" } },
  { type: "array", prefixItems: [{ type: "string" }, { type: "integer" }], items: false },
  { type: "array", prefixItems: [{ type: "string" }], items: { type: "boolean" }, minItems: 1, maxItems: 3 },
  { type: "array", items: { type: "integer" }, minItems: 2, maxItems: 4 },
  { type: "array", items: { type: "array", items: { type: "number" } } },
  { type: "object", properties: { a: { type: "string" }, b: { type: "string" }, c: { type: "string" } }, required: ["b"] },
  { type: "object", properties: { a: { type: "string" } }, additionalProperties: { type: "integer" } },
  { type: "object", additionalProperties: { type: "string" }, minProperties: 1, maxProperties: 2 },
  { type: "object", properties: { a: {}, b: {} }, minProperties: 1, additionalProperties: false },
  { type: "object", propertyNames: { pattern: "^[a-z]+$" }, additionalProperties: { type: "integer" } },
  { type: "object", properties: { a: { type: ["string", "null"] }, "b/c": { type: "integer" }, "d\"e": { type: "boolean" } } },
  { properties: { a: { type: "integer" } }, required: ["a"] },
  { type: "object", properties: { x: true, y: false }, required: ["x"] },
  { type: "object", properties: { args: { type: "array", items: { type: "string", minLength: 1 } }, env: { type: "object", additionalProperties: { type: "string" } } }, required: ["args"] },
  { title: "annotated", description: "d", type: "string", default: "x", examples: ["y"], deprecated: true, "x-own": 1 },
];

async function schemas() {
  const list = [...FIXED];
  while (list.length < 340) list.push(randomSchema(3));
  const lines = [];
  for (const schema of list) {
    const validate = ajv.compile(schema);
    let grammar = null;
    try { grammar = await xgr.Grammar.fromJSONSchema(JSON.stringify(schema), true); } catch { }
    const texts = new Set();
    for (let i = 0; i < 60 && texts.size < (typeof schema === "object" && schema.format ? 6 : 10); ++i) {
      let value = schema === true ? pick([1, "a", { a: [1] }, [true, null]]) : instance(schema, schema);
      if (chance(0.45)) value = mutate(value);
      const t = write(value);
      // No halves of surrogate pairs, which are no text.
      if (t !== undefined && t.length < 300 && !/\\ud[89a-f]/i.test(t)) texts.add(t);
    }
    const verdicts = [];
    for (const t of texts)
      verdicts.push([t, grammar === null ? null : await xgr.Testings.isGrammarAcceptString(grammar, t), validate(JSON.parse(t))]);
    lines.push(JSON.stringify({ schema, texts: verdicts }));
    grammar?.dispose();
  }
  writeFileSync(resolve(out, "schemas.jsonl"), lines.join("\n") + "\n");
}

const GRAMMARS = [
  'root ::= "abc" | "abd" [x-z]*', 'root ::= [a-z]+ " " [0-9]{2,4}', 'root ::= ("a" | "b" root "c")', 'root ::= "x"? "y"* "z"+',
  'root ::= [^"\\\\\\n]* "\\""', 'root ::= item ("," item)*\nitem ::= [a-c]{1,3} | "(" root ")"',
  'root ::= "\\"" ([^"\\\\] | "\\\\" ["\\\\/bfnrt])* "\\""', 'root ::= ws "{" ws "}"\nws ::= [ \\n\\t]*',
  'root ::= ("true" | "false" | "null")', 'root ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)?',
  'root ::= a b\na ::= "a"* \nb ::= "ab"', 'root ::= expr\nexpr ::= term (("+" | "-") term)*\nterm ::= [0-9]+ | "(" expr ")"',
  'root ::= ("ab" | "abc" | "bcd")+', 'root ::= "[" (root ("," root)*)? "]" | [0-9]', 'root ::= [a-zA-Z_] [a-zA-Z0-9_]*',
  'root ::= ("a" "b"?){2,3} "c"', 'root ::= "<" [a-c]+ ">" [^<]* "</" [a-c]+ ">"', 'root ::= line+\nline ::= [^\\n]{1,5} "\\n"',
  'root ::= ("a"? "b"?)* "c"',
];
const VOCABULARY = [
  ...Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)), "\n", "\t", "ab", "abc", "abd", "bc", "cd", "bcd", "aa", "bb", "xyz", "zz",
  "12", "123", "0.5", "-1", "00", ", ", "\": \"", "\",", "\"}", "{\"", "[[", "]]", "],[", "()", "))", "((", "+1", ")+", "true", "fal", "se",
  "null", "  ", "\n\n", "a\nb", "c,", "b,a", "<a", "</", ">x", "a>", "x\"", "\\n", "\\\"", "ac", "abab", "END",
];

async function masks() {
  const lines = [JSON.stringify({ tokens: VOCABULARY })];
  const info = await xgr.TokenizerInfo.createTokenizerInfo(VOCABULARY, "RAW", false, VOCABULARY.length, [VOCABULARY.length - 1]);
  const compiler = await xgr.GrammarCompiler.createGrammarCompiler(info);
  let disagreements = 0;
  for (const grammar of GRAMMARS) {
    const compiled = await compiler.compileGrammar(grammar);
    const steps = [];
    for (let walk = 0; walk < 4; ++walk) {
      const matcher = await xgr.GrammarMatcher.createGrammarMatcher(compiled);
      const sofar = [];
      for (let n = 0; n < 5; ++n) {
        const mask = await matcher.getNextTokenBitmask();
        const trial = await xgr.GrammarMatcher.createGrammarMatcher(compiled);
        const allowed = VOCABULARY.map((_, id) => id).filter((id) => {
          const masked = ((mask[id >> 5] >>> (id & 31)) & 1) === 1;
          if (id === VOCABULARY.length - 1 || /[^\x00-\x7f]/.test(VOCABULARY[id])) return masked;
          trial.reset();
          for (const token of sofar) trial._acceptString(VOCABULARY[token]);
          const accepted = trial._acceptString(VOCABULARY[id]);
          if (accepted !== masked) ++disagreements;
          return accepted;
        });
        trial.dispose();
        steps.push([[...sofar], allowed]);
        const go = allowed.filter((id) => id !== VOCABULARY.length - 1);
        if (go.length === 0) break;
        const token = chance(0.5) ? go[go.length - 1 - below(Math.min(8, go.length))] : pick(go);
        if (!matcher._acceptString(VOCABULARY[token])) throw new Error("the oracle refuses what it allowed");
        sofar.push(token);
      }
      matcher.dispose();
    }
    lines.push(JSON.stringify({ grammar, steps }));
  }
  writeFileSync(resolve(out, "masks.jsonl"), lines.join("\n") + "\n");
  console.log(`${disagreements} tokens whose mask by the oracle disagrees with what it accepts`);
}

mkdirSync(out, { recursive: true });
await schemas();
await masks();
