// Products of signed bytes, summed exactly as integers.
#extension GL_EXT_spirv_intrinsics : require
// OpSDot on four signed bytes packed in a word (the last operand); glslc of Debian 12 has no extension for it.
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6018, 6019], id = 4450)
int dot4(uint a, uint b, spirv_literal int packed_format);
int dot8(uvec2 a, uvec2 b) { return dot4(a.x, b.x, 0) + dot4(a.y, b.y, 0); }
