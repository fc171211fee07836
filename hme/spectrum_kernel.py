"""The sliding Fourier transform of all channels of a motion, and what is kept of it: one thread per motion.

The bins of a window of N samples follow from those of the window one sample before: X_k ← (X_k + new − old)·e^{2πik/N}. The
periodic Hann window is applied to the bins: Y_k = ½X_k − ¼(X_{k−1} + X_{k+1}), and the window's mean is left out by X_0 = 0. A
motion shorter than a window is one window of its own length: its mean is taken away, a Hann window of that length weighs it,
and zeros follow. Inner loops run over channels, padded to whole registers, and so become vector instructions.
For the CPU, which runs threads one after another: they share their room to work.
"""

# Warp's annotations are for its own compiler; to a type checker they are calls and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportAssignmentType=false, reportReturnType=false

import warp as wp

import corpus.warp_tools  # noqa: F401  Warp's settings, before its first use

RESTART = 512
"""Windows after which the bins are summed anew, since roundings add up."""
LANES = 16
"""Channels are padded to a multiple of this, by which `gather` counts."""


@wp.struct
class Task:
    """What is asked of all motions; arrays are given by address."""

    channels: wp.int32
    padded: wp.int32
    """Channels, padded."""
    window: wp.int32
    """Samples of a window; odd."""
    values: wp.int32
    """Numbers that tell of a window, channel by channel."""
    bands: wp.bool
    """Are these the logarithms of the energy in bands? Else amplitude and frequency."""
    band_of: wp.uint64
    """Band of each bin (int32); 0 for all where there are none."""
    floor: wp.float32
    """Energy added before the logarithm."""
    bin_hz: wp.float32
    turns: wp.uint64
    """Cosine and sine of 2πk / window of each bin k, one after the other."""
    mean: wp.uint64
    scale: wp.uint64
    """Of each channel: z = (x − mean) · scale."""
    share: wp.uint64
    """Of each channel in the spectrum."""
    real: wp.uint64
    imaginary: wp.uint64
    """Room for the bins, padded numbers each."""
    sample: wp.uint64
    middle: wp.uint64
    moment: wp.uint64
    """Room for padded numbers each."""
    told: wp.uint64
    """Room for a window's `values` times padded numbers."""


@wp.func_native("return 0.5f - 0.5f * cosf(6.2831853f * ((float)t + 0.5f) / (float)count);")
def hann(t: int, count: int) -> float: ...


@wp.func_native("memset((void*)address, 0, 4 * (size_t)count);")
def clear(address: wp.uint64, count: int): ...


@wp.func_native("""
const float* mean = (const float*)task.mean; const float* scale = (const float*)task.scale;
float* __restrict middle = (float*)task.middle;
for (int t = 0; t < count; ++t)
    for (int c = 0; c < task.channels; ++c) middle[c] += ((const float*)rows)[t * task.channels + c];
for (int c = 0; c < task.channels; ++c) middle[c] = (middle[c] / count - mean[c]) * scale[c];
""")
def find_middle(task: Task, rows: wp.uint64, count: int):
    """The mean of a brief motion."""


@wp.func_native("""
const float* mean = (const float*)task.mean; const float* scale = (const float*)task.scale;
const float* middle = (const float*)task.middle; const float* now = (const float*)rows + (size_t)t * task.channels;
float* __restrict sample = (float*)task.sample;
for (int c = 0; c < task.channels; ++c) sample[c] = weight * ((now[c] - mean[c]) * scale[c] - middle[c]);
""")
def take(task: Task, rows: wp.uint64, t: int, weight: float):
    """Sample t, standardised, goes into the window."""


@wp.func_native("""
const float* scale = (const float*)task.scale; const float* now = (const float*)rows + (size_t)t * task.channels;
const float* old = now - (size_t)task.window * task.channels;
float* __restrict sample = (float*)task.sample;
for (int c = 0; c < task.channels; ++c) sample[c] = (now[c] - old[c]) * scale[c];
""")
def exchange(task: Task, rows: wp.uint64, t: int):
    """Sample t goes into the window and the oldest leaves it."""


@wp.func_native("""
const float* turns = (const float*)task.turns; const float* __restrict sample = (const float*)task.sample;
for (int k = 1; k <= task.window / 2; ++k) {
    const float cosine = turns[2 * k], sine = turns[2 * k + 1];
    float* __restrict a = (float*)task.real + k * task.padded;
    float* __restrict b = (float*)task.imaginary + k * task.padded;
    for (int c = 0; c < task.padded; ++c) {
        const float x = a[c] + sample[c], y = b[c];
        a[c] = x * cosine - y * sine;
        b[c] = x * sine + y * cosine;
    }
}
""")
def turn(task: Task):
    """All bins take up the sample."""


@wp.func_native("""
const int C = task.padded, last = task.window / 2;
const float *real = (const float*)task.real, *imaginary = (const float*)task.imaginary;
float* __restrict moment = (float*)task.moment;
const float own = weighed ? 1.0f : 0.5f, near = weighed ? 0.0f : 0.25f;
for (int k = 1; k <= last; ++k) {
    // Bin 0 stays zero, and the bin after the last one is its conjugate.
    const int next = k < last ? k + 1 : k;
    const float far = k < last ? near : -near, hz = task.bin_hz * k;
    const float *a0 = real + (k - 1) * C, *a1 = real + k * C, *a2 = real + next * C;
    const float *b0 = imaginary + (k - 1) * C, *b1 = imaginary + k * C, *b2 = imaginary + next * C;
    const float* share = (const float*)task.share;
    float* __restrict told = (float*)task.told + ((const int*)task.band_of)[k] * C;
    float whole[16] = {0.0f};
    for (int c = 0; c < C; c += 16)
        for (int i = 0; i < 16; ++i) {
            const int d = c + i;
            const float x = own * a1[d] - near * (a0[d] + a2[d]);
            const float y = own * b1[d] - near * b0[d] - far * b2[d];
            const float energy = unit * (x * x + y * y);
            told[d] += energy;
            moment[d] += hz * energy;
            whole[i] += share[d] * energy;
        }
    for (int i = 0; i < 16; ++i) ((double*)spectrum)[k] += whole[i];
}
""")
def gather(task: Task, weighed: wp.bool, unit: float, spectrum: wp.uint64):
    """The energy of each bin goes to its band, to the moment about 0 Hz and to the spectrum; `weighed`: by Hann, already."""


# The exponent, and a polynomial of the mantissa between √½ and √2 (Cephes' logf); good to 1e-7.
@wp.func_native("""
float* __restrict told = (float*)task.told;
for (int i = 0; i < task.values * task.padded; ++i) {
    const float x = told[i] + task.floor;
    int bits; __builtin_memcpy(&bits, &x, 4);
    const int power = (bits - 0x3f3504f3) >> 23;
    bits -= power << 23;
    float m; __builtin_memcpy(&m, &bits, 4);
    m -= 1.0f;
    float p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f; p = p * m + 1.1676998740e-1f; p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f; p = p * m - 1.6668057665e-1f; p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f; p = p * m + 3.3333331174e-1f;
    told[i] = 0.5f * (m + m * m * (p * m - 0.5f) + 0.69314718f * power);
}
""")
def half_logarithms(task: Task):
    """Energies of bands become ½ln(energy + floor)."""


@wp.func_native("""
float* __restrict told = (float*)task.told; const float* __restrict moment = (const float*)task.moment;
for (int c = 0; c < task.padded; ++c) {
    const float energy = told[c];
    told[c] = sqrtf(2.0f * energy);
    told[task.padded + c] = moment[c] / (energy + 1e-12f);
}
""")
def amplitudes(task: Task):
    """Energies become amplitudes, followed by the frequencies about which they lie [Hz]."""


@wp.func_native("""
const int count = task.values * task.padded;
const float* __restrict told = (const float*)task.told;
double* __restrict sums = (double*)result; double* __restrict squares = (double*)result + count;
for (int i = 0; i < count; ++i) { sums[i] += told[i]; squares[i] += (double)told[i] * (double)told[i]; }
""")
def add_up(task: Task, result: wp.uint64): ...


@wp.func
def tell(task: Task, weighed: wp.bool, weight_energy: float, result: wp.uint64, spectrum: wp.uint64):
    """What the bins of one window tell is added to the motion's sums."""
    clear(task.told, task.values * task.padded)
    clear(task.moment, task.padded)
    gather(task, weighed, 2.0 / (float(task.window) * weight_energy), spectrum)
    if task.bands:
        half_logarithms(task)
    else:
        amplitudes(task)
    add_up(task, result)


@wp.func
def empty_window(task: Task):
    clear(task.real, (task.window / 2 + 1) * task.padded)
    clear(task.imaginary, (task.window / 2 + 1) * task.padded)


@wp.kernel(module="unique")
def transform(
    task: Task, features: wp.uint64, starts: wp.array(dtype=int), results: wp.uint64, spectra: wp.uint64
):  # fmt: skip
    """For each motion the sums of what its windows tell, and of their squares; and its spectrum, summed over windows."""
    number = wp.tid()
    count = starts[number + 1] - starts[number]
    rows = features + wp.uint64(4) * wp.uint64(starts[number]) * wp.uint64(task.channels)
    result = results + wp.uint64(16) * wp.uint64(number) * wp.uint64(task.values * task.padded)
    spectrum = spectra + wp.uint64(8) * wp.uint64(number) * wp.uint64(task.window / 2 + 1)
    clear(task.middle, task.padded)
    clear(task.sample, task.padded)
    if count < task.window:
        empty_window(task)
        find_middle(task, rows, count)
        weight_energy = float(0.0)
        for t in range(count):
            weight = hann(t, count)
            weight_energy += weight * weight
            take(task, rows, t, weight)
            turn(task)
        tell(task, True, weight_energy, result, spectrum)
        return
    for end in range(task.window - 1, count):
        if (end - task.window + 1) % RESTART == 0:
            empty_window(task)
            for t in range(end - task.window + 1, end + 1):
                take(task, rows, t, 1.0)
                turn(task)
        else:
            exchange(task, rows, end)
            turn(task)
        tell(task, False, 0.375 * float(task.window), result, spectrum)
