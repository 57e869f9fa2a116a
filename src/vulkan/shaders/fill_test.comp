#version 460
#extension GL_EXT_buffer_reference : require
#extension GL_KHR_shader_subgroup_basic : require
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint STEP = 1u;
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Words { uint at[]; };
layout(push_constant) uniform Push { Words words; uint n; };
void main() {
  const uint i = gl_GlobalInvocationID.x;
  if (i < n) words.at[i] += STEP * i + gl_SubgroupSize;
}
