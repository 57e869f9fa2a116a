// packmule and llama.cpp in turns on the same file: a table of ratios.
//
//   node contest.mjs MODEL.gguf [TURNS]        (make peer)
//
// Everything is measured TURNS (3) times, one program after the other, so that both see the same hours of a shared
// machine; a ratio is that of the medians, its spread those of the single turns. "Under load" has two other busy
// processes beside it; "avx2" is packmule without AVX-512, against llama.cpp with all it has. Memory speed is measured
// at the beginning of each turn. Works in build/peer, where it installs the npm package that brings llama.cpp.
import {execFileSync, spawn} from "node:child_process";
import {copyFileSync, existsSync, mkdirSync, readFileSync} from "node:fs";
import {cpus} from "node:os";
import {dirname, join, resolve} from "node:path";
import {fileURLToPath} from "node:url";

const PEER = "node-llama-cpp@3";
const PREFILL = [512, 2048];
const DECODE = 32;

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, "../..");
const bin = join(root, "build/release/bin");
const work = join(root, "build/peer");
const model = process.argv[2];
const turns = Number(process.argv[3] ?? 3);
const threads = cpus().length;
if (!model || !(turns >= 1)) {
  console.error("usage: node contest.mjs MODEL.gguf [TURNS]");
  process.exit(2);
}

/// Standard output, wall seconds and the most memory the process ever had.
function run(command, args, {cwd = root, env = {}} = {}) {
  return new Promise((done, fail) => {
    const start = process.hrtime.bigint();
    const child = spawn(command, args, {cwd, env: {...process.env, ...env}, stdio: ["ignore", "pipe", "pipe"]});
    let out = "", err = "", peak = 0;
    const watch = setInterval(() => {
      try {
        peak = Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1] ?? 0) * 1024 || peak;
      } catch {}  // it has just ended
    }, 20);
    child.stdout.on("data", (data) => (out += data));
    child.stderr.on("data", (data) => (err += data));
    child.on("close", (code) => {
      clearInterval(watch);
      if (code !== 0) return fail(new Error(`${command} ${args.join(" ")}: exit code ${code}: ${err.slice(-500)}`));
      done({out, peak, seconds: Number(process.hrtime.bigint() - start) / 1e9});
    });
  });
}

async function packmule(prefills, decode, env) {
  const bench = await run(join(bin, "packmule"), ["bench", "-m", model, "-p", prefills.join(",") || "0", "-n",
    `${decode}`, "-r", "1", "--json"], {env});
  const result = {peak: bench.peak};
  for (const test of JSON.parse(bench.out).results)
    result[test.kind === "decode" ? "decode" : `prefill ${test.tokens}`] = test.median_tokens_per_second;
  return result;
}

async function llama(prefills, decode) {
  const {out, peak} = await run("node", ["llama_cpp.mjs", resolve(model), `${threads}`, prefills.join(",") || "32",
    `${decode}`], {cwd: work});
  const figures = JSON.parse(out.trim().split("\n").at(-1));
  const result = {decode: figures.tg, load: figures.load_s, peak: Math.max(peak, figures.peak_bytes)};
  for (const n of prefills) result[`prefill ${n}`] = figures.pp[n];
  return result;
}

async function underLoad(work_under_load) {
  const busy = [0, 1].map(() => spawn("sh", ["-c", "while :; do :; done"], {stdio: "ignore"}));
  try {
    return (await work_under_load()).decode;
  } finally {
    for (const child of busy) child.kill("SIGKILL");
  }
}

/// GB/s, by our own streaming read.
async function bandwidth() {
  return Number.parseFloat((await run(join(bin, "packmule_stream_read"), [])).out);
}

async function turn() {
  const memory = await bandwidth();
  const ours = await packmule(PREFILL, DECODE);
  const theirs = await llama(PREFILL, DECODE);
  ours.load = (await run(join(bin, "packmule"), ["run", "-m", model, "--no-chat", "-p", "a", "-n", "1"])).seconds;
  ours["decode under load"] = await underLoad(() => packmule([], DECODE));
  theirs["decode under load"] = await underLoad(() => llama([], DECODE));
  if (hasAvx512) {
    ours["prefill 512, avx2"] = (await packmule([512], 0, {PACKMULE_CPU: "avx2"}))["prefill 512"];
    theirs["prefill 512, avx2"] = theirs["prefill 512"];
  }
  return {ours, theirs, memory};
}

const sorted = (values) => [...values].sort((a, b) => a - b);
const median = (values) => {
  const v = sorted(values), half = Math.floor(v.length / 2);
  return v.length % 2 === 1 ? v[half] : (v[half - 1] + v[half]) / 2;
};
const round = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

mkdirSync(work, {recursive: true});
if (!existsSync(join(work, "node_modules/node-llama-cpp")))
  execFileSync("npm", ["install", "--prefix", work, "--ignore-scripts", "--no-audit", "--no-fund", PEER],
    {stdio: ["ignore", "ignore", "inherit"]});
copyFileSync(join(here, "llama_cpp.mjs"), join(work, "llama_cpp.mjs"));

const hasAvx512 = / avx512f /.test(readFileSync("/proc/cpuinfo", "utf8"));
const results = [];
for (let i = 0; i < turns; ++i) {
  results.push(await turn());
  console.error(`turn ${i + 1} of ${turns} done`);
}
const about = JSON.parse((await run(join(bin, "packmule"), ["bench", "-m", model, "-p", "0", "-n", "1", "-r", "1",
  "--json"])).out);
const version = JSON.parse(readFileSync(join(work, "node_modules/node-llama-cpp/package.json"))).version;
console.log(`${about.machine}, ${threads} threads, packmule ${about.isa}, node-llama-cpp ${version}, ${turns} turns`);
const memory = median(results.map((r) => r.memory));
const perToken = about.weight_bytes_per_token / 1e9;
console.log(`memory: ${round(memory)} GB/s (${results.map((r) => round(r.memory)).join(", ")}); ` +
  `${(1000 * perToken).toFixed(1)} MB of weights read a token; decode reads ` +
  `${(100 * median(results.map((r) => (r.ours.decode * perToken) / r.memory))).toFixed(0)} % of the memory's speed`);
console.log("");
console.log("| | packmule | llama.cpp | ratio | in single turns |");
console.log("|---|---:|---:|---:|---:|");
const rows = [["decode", "tokens/s", 1], ...PREFILL.map((n) => [`prefill ${n}`, "tokens/s", 1]),
  ...(hasAvx512 ? [["prefill 512, avx2", "tokens/s", 1]] : []), ["decode under load", "tokens/s", 1], ["load", "s", 1], ["peak", "GB", 1e9]];
for (const [name, unit, scale] of rows) {
  const ours = results.map((r) => r.ours[name] / scale), theirs = results.map((r) => r.theirs[name] / scale);
  const single = sorted(ours.map((value, i) => value / theirs[i]));
  console.log(`| ${name}, ${unit} | ${round(median(ours))} | ${round(median(theirs))} | ` +
    `${(median(ours) / median(theirs)).toFixed(2)} | ${single[0].toFixed(2)} .. ${single.at(-1).toFixed(2)} |`);
}
