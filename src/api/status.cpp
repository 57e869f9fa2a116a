#include "api/status.h"

#include <algorithm>

#include "api/llama_answer.h"

namespace packmule::api {
namespace {

Json slot_json(const engine::SlotState& slot, int64_t n_ctx) {
  return {{"id", slot.id},
          {"id_task", slot.task},
          {"n_ctx", n_ctx},
          {"speculative", false},
          {"is_processing", slot.busy},
          {"n_prompt_tokens", slot.prompt_tokens},
          {"n_prompt_tokens_processed", slot.processed_tokens - slot.cached_tokens},
          {"n_prompt_tokens_cache", slot.cached_tokens},
          {"n_tokens_held", slot.held_tokens},
          {"next_token", Json::array({{{"has_next_token", slot.busy && slot.decoding},
                                       {"n_decoded", slot.generated_tokens}}})}};
}

}  // namespace

Json props_json(const Backend& backend) {
  const ModelInfo& info = backend.info();
  engine::Request defaults;
  defaults.sampling = backend.default_sampling();
  return {{"default_generation_settings",
           {{"n_ctx", info.n_ctx}, {"params", generation_settings_json(defaults, false)}}},
          {"total_slots", std::max<size_t>(1, backend.state().slots.size())},
          {"model_alias", info.name},
          {"model_path", info.path},
          {"modalities", {{"vision", false}, {"audio", false}}},
          {"chat_template", info.chat_template},
          {"bos_token", backend.bos() >= 0 ? std::string(backend.token_bytes(backend.bos())) : std::string()},
          {"eos_token", info.eos_token},
          {"build_info", "packmule " PACKMULE_VERSION}};
}

Json slots_json(const Backend& backend) {
  Json out = Json::array();
  const engine::State state = backend.state();
  for (const engine::SlotState& slot : state.slots) out.push_back(slot_json(slot, backend.info().n_ctx));
  return out;
}

}  // namespace packmule::api
