// packmule on a graphics card beside llama.cpp's Vulkan build: decode and prefill by what is on the card.
//
//   node contest.mjs [--device NAME] [--turns 3] [--prefill 512,2048] [--decode 32] [--layers N] [--experts N]
//
// (make bench-gpu GPU="...") prints a Markdown table: everything on the device, 75, 50 and 25 % of the layers' experts
// there (--n-cpu-moe), and all experts on the CPU (--cpu-moe), in turns with llama.cpp, medians and ratios as in
// bench/peer. The file is a synthetic one of the true widths, with as many layers as fit the device, the host's memory
// and the disk; --layers and --experts choose others.
//
// The npm package has no --n-cpu-moe: llama.cpp gets the output, which counts as a layer there, and as many whole
// layers (n_gpu_layers) as packmule has layers whose experts are on the device; the others are wholly on the CPU. That
// is what its user can do, and less than llama-server can.
//
// Without a discrete card it says so and ends, unless --device names what to use instead.
import {existsSync, mkdirSync, statfsSync} from "node:fs";
import {join} from "node:path";
import {bin, installPeer, llama, packmule, root, run, TABLE_HEAD, tableRow, threads} from "../peer/parts.mjs";

const USAGE = "usage: node contest.mjs [--device NAME] [--turns N] [--prefill N,N] [--decode N] [--layers N] [--experts N]";
const LAYERS = 48, EXPERTS = 512, PERIOD = 4;  // of the full model; every fourth layer is attention
const LAYER_BYTES = 1.045e9;                   // with all experts, in the mix of make_synthetic
const OTHER_BYTES = 0.85e9;                    // output head, activations of a ubatch, caches of a short context

function stop(message, code = 2) {
  console.error(`bench/gpu: ${message}`);
  process.exit(code);
}

const options = {device: "", turns: "3", prefill: "512,2048", decode: "32", layers: "", experts: ""};
for (let i = 2; i < process.argv.length; i += 2) {
  const name = process.argv[i].replace(/^--/, "");
  if (!process.argv[i].startsWith("--") || !(name in options) || process.argv[i + 1] === undefined) stop(USAGE);
  options[name] = process.argv[i + 1];
}
const turns = Number(options.turns), decode = Number(options.decode), prefills = options.prefill.split(",").map(Number);
for (const [name, value] of [["turns", turns], ["decode", decode], ...prefills.map((n) => ["prefill", n])])
  if (!Number.isInteger(value) || value < 1) stop(`--${name}: expected a positive number; ${USAGE}`);

/// {id, name, type, driver} of each device.
async function devices() {
  const {out} = await run(join(bin, "packmule"), ["--list-devices"]);
  return [...out.matchAll(/^(Vulkan\d+): (.*) \((discrete GPU|integrated GPU|virtual GPU|processor|other)\), (.*)$/gm)]
    .map(([, id, name, type, driver]) => ({id, name, type, driver}));
}

async function choose() {
  const all = await devices();
  const chosen = options.device ? all.find(({id}) => id.toLowerCase() === options.device.toLowerCase())
    : all.find(({type}) => type === "discrete GPU");
  if (chosen) return chosen;
  if (options.device)
    stop(`there is no device ${options.device}; found ${all.map(({id, name}) => `${id} (${name})`).join(", ") || "none"}`);
  console.log("bench/gpu: there is no discrete graphics card here; --device NAME measures another device" +
    (all.length > 0 ? ` (${all.map(({id, name, type}) => `${id}: ${name}, ${type}`).join("; ")})` : ""));
  process.exit(0);
}

/// Bytes that may be used of the device and of the host, as the planner sees them.
async function budgets(device) {
  const {out} = await run(join(bin, "packmule"), ["plan", "-m", join(root, "tests/data/golden/tinyC-Q4_K_M.gguf"), "--device",
    device.id, "--calibrate", "never", "--json"]);
  const budget = (name) => JSON.parse(out).memory.find((memory) => memory.name === name).budget_bytes;
  return {device: budget("GPU0"), host: budget("CPU")};
}

/// The largest file of whole periods of layers of which everything fits the device and experts the host; where one
/// period does not fit, four layers of fewer experts.
async function shape(device) {
  const free = await budgets(device);
  const disk = statfsSync(join(root, "build"));
  const room = Math.min(free.device - OTHER_BYTES, free.host - 2e9, disk.bavail * disk.bsize - 2e9);
  let layers = Math.min(LAYERS, Math.floor(room / LAYER_BYTES / PERIOD) * PERIOD), experts = EXPERTS;
  if (layers < PERIOD) {
    layers = PERIOD;
    experts = Math.floor((room / (PERIOD * LAYER_BYTES)) * EXPERTS / 16) * 16;
  }
  layers = Number(options.layers || layers);
  experts = Number(options.experts || experts);
  if (!(layers >= PERIOD) || !(experts >= 16))
    stop(`no file of at least ${PERIOD} layers and 16 experts fits: ${(free.device / 1e9).toFixed(1)} GB of ${device.id}, ` +
      `${(free.host / 1e9).toFixed(1)} GB of memory, ${((disk.bavail * disk.bsize) / 1e9).toFixed(1)} GB of disk`, 1);
  return {layers, experts};
}

async function makeFile({layers, experts}) {
  const model = join(root, `build/synthetic-${layers}-layers${experts === EXPERTS ? "" : `-${experts}-experts`}.gguf`);
  if (!existsSync(model)) {
    console.error(`making ${model}`);
    await run(join(bin, "packmule_make_synthetic"), [model, "--layers", `${layers}`, "--experts", `${experts}`]);
  }
  return model;
}

mkdirSync(join(root, "build"), {recursive: true});
const device = await choose();
const file = await shape(device);
const model = await makeFile(file);
const {layers} = file;
const onDevice = (share) => Math.round(share * layers);
const cases = [
  {name: "everything on the device", flags: [], gpuLayers: layers + 1},
  ...[0.75, 0.5, 0.25].map((share) => ({
    name: `experts of ${100 * share} % of the layers`, flags: ["--n-cpu-moe", `${layers - onDevice(share)}`],
    gpuLayers: onDevice(share) + 1})),
  {name: "experts on the CPU", flags: ["--cpu-moe"], gpuLayers: 1}];

let version = "";
const peerFailures = [];  // lines; a case that failed once is not tried again
try {
  version = installPeer();
} catch (error) {
  peerFailures.push(`llama.cpp cannot be installed from npm: ${error.message}`);
}
// Its Vulkan build leaves processors out unless they are named.
const peerEnv = device.type === "processor" && !process.env.GGML_VK_VISIBLE_DEVICES ? {GGML_VK_VISIBLE_DEVICES: "0"} : {};
let peerDevices = [];

async function measure(one) {
  const ours = await packmule(model, prefills, decode, {flags: ["--device", device.id, "-ngl", "99", ...one.flags]});
  if (!version || one.peerFailed) return {ours};
  try {
    const theirs = await llama(model, prefills, decode, {where: {gpu: "vulkan", gpuLayers: one.gpuLayers}, env: peerEnv});
    peerDevices = theirs.devices;
    return {ours, theirs};
  } catch (error) {
    one.peerFailed = true;
    peerFailures.push(`llama.cpp, ${one.name}: ${error.message.split("\n").at(-1).replace(/^.*: exit code/, "exit code")}`);
    return {ours};
  }
}

const results = cases.map(() => []);
for (let i = 0; i < turns; ++i) {
  for (const [at, one] of cases.entries()) results[at].push(await measure(one));
  console.error(`turn ${i + 1} of ${turns} done`);
}

const about = JSON.parse((await run(join(bin, "packmule"), ["bench", "-m", model, "-p", "0", "-n", "1", "-r", "1", "--json",
  "--device", "none"])).out);
console.log(`${device.name} (${device.type}), ${device.driver}; ${about.machine}, ${threads} threads, packmule ${about.isa}, ` +
  `${version ? `node-llama-cpp ${version}, ` : ""}${turns} turn${turns === 1 ? "" : "s"}`);
console.log(`file: ${layers} layers, ${file.experts} experts, ${(about.weight_bytes_per_token / 1e6).toFixed(1)} MB of weights read a token`);
if (device.type === "processor") console.log("This device is the processor: these speeds say nothing about a graphics card.");
for (const line of peerFailures) console.log(line);
if (peerDevices.length > 0 && (peerDevices.length > 1 || peerDevices[0] !== device.name))
  console.log(`llama.cpp used ${peerDevices.join(", ")}: set GGML_VK_VISIBLE_DEVICES to the number of ${device.name} there`);
console.log("");
console.log(TABLE_HEAD);
for (const [at, {name}] of cases.entries())
  for (const what of ["decode", ...prefills.map((n) => `prefill ${n}`)]) {
    const ours = results[at].map((r) => r.ours[what]), theirs = results[at].map((r) => r.theirs?.[what] ?? NaN);
    console.log(tableRow(`${name}: ${what}, tokens/s`, ours, theirs).replaceAll("NaN .. NaN", "").replaceAll("NaN", ""));
  }
if (version)
  console.log("\nllama.cpp: the output and as many whole layers on the device as packmule has layers whose experts are there (none with experts on the CPU).");
