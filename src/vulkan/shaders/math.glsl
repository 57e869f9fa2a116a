// e^x and what is made of it.
//
// Vulkan allows exp() an error of 3 + 2|x| units in the last place, which differs by driver; this one has 2 on all of
// them, so that tolerances (and the words of a model) do not depend on the driver.
float exp_exact(float x) {
  if (isnan(x)) return x;
  // Below, e^x is a denormal or 0, and is 0 here; above, infinity.
  if (x < -87.3) return 0.0;
  if (x > 88.72) return uintBitsToFloat(0x7f800000u);
  precise float n = roundEven(x * 1.44269504);
  // x - n ln 2, ln 2 in two parts, the first of few enough bits for an exact product.
  precise float r = x - n * 0.693359375;
  r = r + n * 2.12194440e-4;
  // Taylor's polynomial: |r| < 0.347, so what is left out is below 2^-28.
  precise float p = 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r * r + r;
  p = p + 1.0;
  // In two steps: 2^128 is no float, but e^88.72 is.
  const int half_n = int(n) / 2;
  return p * uintBitsToFloat(uint(half_n + 127) << 23) * uintBitsToFloat(uint(int(n) - half_n + 127) << 23);
}
float sigmoid(float x) { return 1.0 / (1.0 + exp_exact(-x)); }
float silu(float x) { return x / (1.0 + exp_exact(-x)); }
/// ln(1 + e^x); for very negative x, where 1 + e^x is 1, e^x itself.
float softplus(float x) {
  const float e = exp_exact(-abs(x));
  const float u = 1.0 + e;
  // log1p (Kahan): the error of the sum cancels in the quotient.
  const float log1p = u == 1.0 ? e : log(u) * e / (u - 1.0);
  return max(x, 0.0) + log1p;
}
