// The sum of a value over a workgroup, whatever the size of its subgroups. Every invocation must come by, and every
// one gets the sum. Needs LANES, a constant of the workgroup's size.
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
shared float reduce_partial[LANES];

float workgroup_sum(float value) {
  const float sum = subgroupAdd(value);
  if (gl_NumSubgroups == 1u) return sum;
  barrier();  // who is late still reads the last sum's parts
  if (subgroupElect()) reduce_partial[gl_SubgroupID] = sum;
  barrier();
  float total = 0.0;
  for (uint i = 0u; i < gl_NumSubgroups; ++i) total += reduce_partial[i];
  return total;
}
