"""From rows of `qpos` to heading-free channels, low-passed and thinned: one thread per motion, loops over plain memory.

For the CPU, which runs threads one after another: they share their room to work.
"""

# Warp's annotations are for its own compiler; to a type checker they are calls and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

import warp as wp

import corpus.warp_tools  # noqa: F401  Warp's settings, before its first use

ROOT_CHANNELS = 10
"""Height, gravity 3, linear velocity 3, angular velocity 3; the joint angles follow."""


@wp.func_native("""
typedef const float* Rows; typedef float* Out;
Rows rows = (Rows)qpos; Out root = (Out)work;
for (int t = first; t < stop; ++t) {
    Rows now = rows + (size_t)t * width;
    Out out = root + (size_t)(t - first) * 10;
    float w = now[3], x = now[4], y = now[5], z = now[6];
    const float unit = 1.0f / sqrtf(w * w + x * x + y * y + z * z);
    w *= unit; x *= unit; y *= unit; z *= unit;
    out[0] = now[2];
    out[1] = 2.0f * (w * y - x * z);
    out[2] = -2.0f * (y * z + w * x);
    out[3] = 2.0f * (x * x + y * y) - 1.0f;

    Rows before = t > first ? now - width : now;
    Rows after = t + 1 < stop ? now + width : now;
    const float rate = fps / (t > first && t + 1 < stop ? 2.0f : 1.0f);
    float c = 1.0f - 2.0f * (y * y + z * z), s = 2.0f * (x * y + w * z);
    const float level = sqrtf(c * c + s * s);
    // The x axis upright has no heading: any will do.
    c = level > 1e-9f ? c / level : 1.0f;
    s = level > 1e-9f ? s / level : 0.0f;
    const float vx = (after[0] - before[0]) * rate, vy = (after[1] - before[1]) * rate;
    out[4] = c * vx + s * vy;
    out[5] = c * vy - s * vx;
    out[6] = (after[2] - before[2]) * rate;

    // Turns from frame to frame, about the root's own axes: the way from t - 1 and the way to t + 1 are averaged.
    out[7] = out[8] = out[9] = 0.0f;
    for (int side = 0; side < 2; ++side) {
        Rows a = (side ? now : before) + 3, b = (side ? after : now) + 3;
        if (a == b) continue;
        float dw = a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3];
        float dx = a[0] * b[1] - a[1] * b[0] - a[2] * b[3] + a[3] * b[2];
        float dy = a[0] * b[2] + a[1] * b[3] - a[2] * b[0] - a[3] * b[1];
        float dz = a[0] * b[3] - a[1] * b[2] + a[2] * b[1] - a[3] * b[0];
        const float sine = sqrtf(dx * dx + dy * dy + dz * dz);
        const float sign = dw < 0.0f ? -1.0f : 1.0f;
        const float scale = sine > 1e-12f ? sign * 2.0f * atan2f(sine, fabsf(dw)) / sine : 0.0f;
        out[7] += dx * scale * rate; out[8] += dy * scale * rate; out[9] += dz * scale * rate;
    }
}
""")
def root_channels(qpos: wp.uint64, width: int, first: int, stop: int, fps: float, work: wp.uint64):
    """Write the root's ten channels of rows `first` to `stop` to `work`."""


@wp.func_native("""
typedef const float* Rows; typedef float* Out;
Rows rows = (Rows)qpos, root = (Rows)work, tap = (Rows)taps;
const int joints = width - 7;
for (int j = 0; j < count; ++j) {
    float* __restrict out = (Out)result + (size_t)(to + j) * (10 + joints);
    for (int c = 0; c < 10 + joints; ++c) out[c] = 0.0f;
    for (int i = -half; i <= half; ++i) {
        int t = first + j * step + i;
        t = t < first ? first : (t >= stop ? stop - 1 : t);
        const float* __restrict from = root + (size_t)(t - first) * 10;
        const float* __restrict angles = rows + (size_t)t * width + 7;
        const float weight = tap[i + half];
        for (int c = 0; c < 10; ++c) out[c] += weight * from[c];
        for (int c = 0; c < joints; ++c) out[10 + c] += weight * angles[c];
    }
}
""")
def thin(
    qpos: wp.uint64, width: int, first: int, stop: int, work: wp.uint64, taps: wp.uint64, half: int, step: int,
    result: wp.uint64, to: int, count: int,
):  # fmt: skip
    """Weigh the frames around every `step`-th one by `taps`; beyond its ends a motion stays as it is there."""


@wp.kernel(module="unique")
def extract(
    qpos: wp.uint64, width: int, starts: wp.array(dtype=int), fps: float, work: wp.uint64, taps: wp.uint64, half: int,
    step: int, result: wp.uint64, places: wp.array(dtype=int),
):  # fmt: skip
    """Motion i is rows `starts[i]` to `starts[i + 1]`; its features go to rows `places[i]` to `places[i + 1]`."""
    i = wp.tid()
    first, stop = starts[i], starts[i + 1]
    root_channels(qpos, width, first, stop, fps, work)
    thin(qpos, width, first, stop, work, taps, half, step, result, places[i], places[i + 1] - places[i])
