// What contests with llama.cpp have in common: programs that are run and measured, the npm package that brings
// llama.cpp, medians and rows of tables.
import {execFileSync, spawn} from "node:child_process";
import {copyFileSync, existsSync, mkdirSync, readFileSync} from "node:fs";
import {cpus} from "node:os";
import {dirname, join, resolve} from "node:path";
import {fileURLToPath} from "node:url";

const PEER = "node-llama-cpp@3";
const here = dirname(fileURLToPath(import.meta.url));
export const root = resolve(here, "../..");
export const bin = join(root, "build/release/bin");
export const threads = cpus().length;
const work = join(root, "build/peer");

/// Standard output, wall seconds and the most memory the process ever had.
export function run(command, args, {cwd = root, env = {}} = {}) {
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
    child.on("error", (error) => {
      clearInterval(watch);
      fail(error);
    });
    child.on("close", (code) => {
      clearInterval(watch);
      if (code !== 0) return fail(new Error(`${command} ${args.join(" ")}: exit code ${code}: ${err.trim().slice(-500)}`));
      done({out, peak, seconds: Number(process.hrtime.bigint() - start) / 1e9});
    });
  });
}

/// Brings llama.cpp, if it is not there, and says which version of the package it is.
export function installPeer() {
  mkdirSync(work, {recursive: true});
  if (!existsSync(join(work, "node_modules/node-llama-cpp")))
    execFileSync("npm", ["install", "--prefix", work, "--ignore-scripts", "--no-audit", "--no-fund", PEER],
      {stdio: ["ignore", "ignore", "inherit"]});
  copyFileSync(join(here, "llama_cpp.mjs"), join(work, "llama_cpp.mjs"));
  return JSON.parse(readFileSync(join(work, "node_modules/node-llama-cpp/package.json"))).version;
}

/// tokens/s by "decode" and "prefill N", and the most memory. `flags` are those of packmule bench.
export async function packmule(model, prefills, decode, {flags = [], env = {}} = {}) {
  const bench = await run(join(bin, "packmule"), ["bench", "-m", model, "-p", prefills.join(",") || "0", "-n",
    `${decode}`, "-r", "1", "--json", ...flags], {env});
  const result = {peak: bench.peak};
  for (const test of JSON.parse(bench.out).results)
    result[test.kind === "decode" ? "decode" : `prefill ${test.tokens}`] = test.median_tokens_per_second;
  return result;
}

/// The same, with the seconds that loading took and the devices; `where` as llama_cpp.mjs takes it.
export async function llama(model, prefills, decode, {where = {}, env = {}} = {}) {
  const {out, peak} = await run("node", ["llama_cpp.mjs", resolve(model), `${threads}`, prefills.join(",") || "32",
    `${decode}`, JSON.stringify(where)], {cwd: work, env});
  const figures = JSON.parse(out.trim().split("\n").at(-1));
  const result = {decode: figures.tg, load: figures.load_s, peak: Math.max(peak, figures.peak_bytes), devices: figures.devices};
  for (const n of prefills) result[`prefill ${n}`] = figures.pp[n];
  return result;
}

export const sorted = (values) => [...values].sort((a, b) => a - b);
export const median = (values) => {
  const v = sorted(values), half = Math.floor(v.length / 2);
  return v.length % 2 === 1 ? v[half] : (v[half - 1] + v[half]) / 2;
};
export const round = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

export const TABLE_HEAD = "| | packmule | llama.cpp | ratio | in single turns |\n|---|---:|---:|---:|---:|";
/// Medians of both, their ratio, and the least and largest ratio of a turn.
export function tableRow(name, ours, theirs) {
  const single = sorted(ours.map((value, i) => value / theirs[i]));
  return `| ${name} | ${round(median(ours))} | ${round(median(theirs))} | ${(median(ours) / median(theirs)).toFixed(2)} | ` +
    `${single[0].toFixed(2)} .. ${single.at(-1).toFixed(2)} |`;
}
