#version 460
#extension GL_GOOGLE_include_directive : require
#define INT8
#include "matmul.glsl"
