#include "api/models.h"

namespace packmule::api {

Json model_json(const ModelInfo& info) {
  return {{"id", info.name},
          {"object", "model"},
          {"created", info.created},
          {"owned_by", "packmule"},
          {"meta",
           {{"n_vocab", info.n_vocab},
            {"n_ctx", info.n_ctx},
            {"n_ctx_train", info.n_ctx_train},
            {"n_embd", info.n_embd},
            {"n_params", info.n_params},
            {"size", info.size_bytes}}}};
}

Json model_list_json(const ModelInfo& info) {
  return {{"object", "list"}, {"data", Json::array({model_json(info)})}};
}

}  // namespace packmule::api
