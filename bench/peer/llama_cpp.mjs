// Speed of llama.cpp on a model file, through the npm package node-llama-cpp (prebuilt).
//
//   node llama_cpp.mjs MODEL.gguf THREADS PREFILL[,PREFILL...] DECODE [WHERE]
//
// WHERE: JSON, {"gpu": "vulkan", "gpuLayers": N} for so many whole layers on a device; without it the CPU has all.
// Prints one line of JSON: {"load_s", "pp": {"512": tokens/s, ...}, "tg": tokens/s, "peak_bytes", "devices": [names]}.
import {readFileSync} from "node:fs";
import {getLlama} from "node-llama-cpp";

const [modelPath, threads, prefills, decode, where = "{}"] = process.argv.slice(2);
const {gpu = false, gpuLayers = 0} = JSON.parse(where);
const sizes = prefills.split(",").map(Number);
const seconds = () => Number(process.hrtime.bigint()) / 1e9;

// What is asked for is tried: the package's own estimate of what fits would place other layers, or refuse.
const unchecked = gpu ? {ignoreMemorySafetyChecks: true} : {};

let start = seconds();
const llama = await getLlama({gpu, build: "never", logLevel: "error", maxThreads: Number(threads)});
const model = await llama.loadModel({modelPath, gpuLayers, ...unchecked});
const context = await model.createContext({
  contextSize: Math.max(...sizes) + Number(decode) + 64,
  batchSize: 2048,
  threads: Number(threads),
  flashAttention: true,
  ...unchecked
});
const result = {load_s: seconds() - start, pp: {}, tg: 0, peak_bytes: 0, devices: gpu ? await llama.getGpuDeviceNames() : []};
const sequence = context.getSequence();
// Any ids do for speed; these stay clear of control tokens.
const tokens = (n) => Array.from({length: n}, (_, i) => 1000 + ((i * 7919) % 50000));

await sequence.evaluateWithoutGeneratingNewTokens(tokens(32));  // weights and buffers are touched once
for (const n of sizes) {
  await sequence.clearHistory();
  start = seconds();
  await sequence.evaluateWithoutGeneratingNewTokens(tokens(n));
  result.pp[n] = n / (seconds() - start);
}
await sequence.clearHistory();
await sequence.evaluateWithoutGeneratingNewTokens(tokens(32));
start = seconds();
for (let i = 0; i < Number(decode); ++i) await sequence.evaluateWithoutGeneratingNewTokens([1000 + 37 * i]);
result.tg = Number(decode) / (seconds() - start);
result.peak_bytes = 1024 * Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]);
console.log(JSON.stringify(result));
process.exit(0);
