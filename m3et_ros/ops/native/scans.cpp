// The scans of Mamba-1 and Mamba-2 on a CPU, float32, forward and backward; `m3et build kernels` compiles this file.
//
// Plain C interface, no header but the standard library's. AVX-512, AVX2 or neither is picked when the library is
// loaded. One thread: a robot's cores are few, and a waiting thread of a pool costs more than it brings.
//
// The state-space dual needs one kernel only. With k, q, v rows of a sequence,
//     h_t[j][i] = exp(g_t) h_{t-1}[j][i] + k_t[j] v_t[i],    o_t[i] = sum_j q_t[j] h_t[j][i],
// y (k = B, q = C, v = dt x) and, backward in time or with the roles changed, the gradients of x, B and C are its o.
// A tile of h stays in registers over a stretch of the sequence. Instead of letting h decay in every step, v grows and o
// shrinks by the decay since the last time that h was brought up to date: two fused multiply-adds an element remain.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#define INLINE inline __attribute__((always_inline))

namespace {

constexpr int STRETCH = 64;      // steps of the sequence while a tile is in registers; inputs then stay in L1
constexpr float LIMIT = -8.0f;   // logarithm of the decay at which h is brought up to date
constexpr int BLOCK = 16;        // steps of Mamba-1 whose states are kept at a time, backward

template <int W> struct Lanes {
    typedef float V __attribute__((vector_size(W * 4), aligned(4), may_alias));
    typedef int32_t I __attribute__((vector_size(W * 4), aligned(4), may_alias));
};

template <int W> INLINE typename Lanes<W>::V load(const float* p) { return *(const typename Lanes<W>::V*)p; }
template <int W> INLINE void store(float* p, typename Lanes<W>::V v) { *(typename Lanes<W>::V*)p = v; }

template <int W> INLINE typename Lanes<W>::V some(const float* p, int lanes) {
    if (lanes == W) return load<W>(p);
    float row[W] = {0};
    for (int i = 0; i < lanes; ++i) row[i] = p[i];
    return load<W>(row);
}

// Rows of j, cut into tiles: [tile][t][k of the tile | q of the tile], zeros at the end.
template <int JT>
INLINE void pack_rows(float* to, const float* k, const float* q, int64_t step_k, int64_t step_q, int64_t L, int J) {
    const int tiles = (J + JT - 1) / JT;
    for (int64_t t = 0; t < L; ++t, k += step_k, q += step_q)
        for (int tile = 0; tile < tiles; ++tile) {
            float* row = to + (tile * L + t) * 2 * JT;
            for (int j = 0; j < JT; ++j) {
                const int at = tile * JT + j;
                row[j] = at < J ? k[at] : 0.0f;
                row[JT + j] = at < J ? q[at] : 0.0f;
            }
        }
}

// One tile over n steps. h [JT][LB * W], kq [n][2 * JT], v and o [n][LB * W]; refresh 1 = leave h as it is.
template <int W, int LB, int JT>
INLINE void tile_steps(float* h_, const float* kq, const float* v, float* o, const float* refresh, int n) {
    typedef typename Lanes<W>::V V;
    V h[JT][LB];
    for (int j = 0; j < JT; ++j)
        for (int l = 0; l < LB; ++l) h[j][l] = load<W>(h_ + (j * LB + l) * W);
    for (int t = 0; t < n; ++t, kq += 2 * JT, v += LB * W, o += LB * W) {
        if (refresh[t] != 1.0f)
            for (int j = 0; j < JT; ++j)
                for (int l = 0; l < LB; ++l) h[j][l] *= refresh[t];
        V x[LB], sum[LB];
        for (int l = 0; l < LB; ++l) { x[l] = load<W>(v + l * W); sum[l] = load<W>(o + l * W); }
        for (int j = 0; j < JT; ++j)
            for (int l = 0; l < LB; ++l) {
                h[j][l] += kq[j] * x[l];
                sum[l] += kq[JT + j] * h[j][l];
            }
        for (int l = 0; l < LB; ++l) store<W>(o + l * W, sum[l]);
    }
    for (int j = 0; j < JT; ++j)
        for (int l = 0; l < LB; ++l) store<W>(h_ + (j * LB + l) * W, h[j][l]);
}

// A scan of one head. Time runs from `first` in steps of `way` (1 or -1) over arrays of L steps in their own order.
struct Scan {
    int64_t L; int I, J;                 // steps, lanes i, rows j
    const float* kq;                     // packed, in order of processing
    const float* v; int64_t step_v;      // lanes, [L][I]
    const float* grow;                   // what v is multiplied with, by step of processing
    float* o; int64_t step_o;            // added to, [L][I]
    const float* shrink;                 // what the sum is multiplied with before it is added
    const float* refresh;                // what h is multiplied with before a step, 1 = nothing
    int way;
    float* h; int64_t h_i, h_j;          // state: before, then after; strides of lanes and rows
    float last;                          // what h is multiplied with at the very end
    int64_t ahead = 0;                   // steps of the first stretch, 0 = as many as of the others
    float* saved = nullptr;              // the state before every stretch: [stretch][i0 / (LB * W)][tiles * JT][LB * W]
};

template <int W, int LB, int JT>
INLINE void scan_head(const Scan& s, float* room) {
    constexpr int wide = LB * W;
    const int tiles = (s.J + JT - 1) / JT;
    float* h = room;
    float* v = h + (size_t)tiles * JT * wide;
    float* o = v + STRETCH * wide;
    const int64_t first = s.way > 0 ? 0 : s.L - 1;
    for (int i0 = 0; i0 < s.I; i0 += wide) {
        const int lanes = std::min(wide, s.I - i0);
        std::memset(h, 0, sizeof(float) * tiles * JT * wide);
        for (int j = 0; j < s.J; ++j)
            for (int i = 0; i < lanes; ++i) h[j * wide + i] = s.h[(i0 + i) * s.h_i + j * s.h_j];
        float* saved = s.saved ? s.saved + (size_t)i0 * tiles * JT : nullptr;
        for (int64_t t0 = 0, n = s.ahead ? s.ahead : STRETCH; t0 < s.L; t0 += n, n = STRETCH) {
            n = std::min(n, s.L - t0);
            if (saved) {
                const float by = t0 ? s.shrink[t0 - 1] : 1.0f;  // h lacks the decay since it was brought up to date
                for (int c = 0; c < tiles * JT * wide; ++c) saved[c] = by * h[c];
                saved += (size_t)tiles * JT * wide * ((s.I + wide - 1) / wide);
            }
            std::memset(o, 0, sizeof(float) * n * wide);
            if (lanes < wide) std::memset(v, 0, sizeof(float) * n * wide);
            for (int t = 0; t < n; ++t) {
                const float* row = s.v + (first + s.way * (t0 + t)) * s.step_v + i0;
                const float by = s.grow[t0 + t];
                for (int i = 0; i < lanes; ++i) v[t * wide + i] = by * row[i];
            }
            for (int tile = 0; tile < tiles; ++tile)
                tile_steps<W, LB, JT>(h + tile * JT * wide, s.kq + (tile * s.L + t0) * 2 * JT, v, o, s.refresh + t0,
                                      (int)n);
            for (int t = 0; t < n; ++t) {
                float* row = s.o + (first + s.way * (t0 + t)) * s.step_o + i0;
                const float by = s.shrink[t0 + t];
                for (int i = 0; i < lanes; ++i) row[i] += by * o[t * wide + i];
            }
        }
        for (int j = 0; j < s.J; ++j)
            for (int i = 0; i < lanes; ++i) s.h[(i0 + i) * s.h_i + j * s.h_j] = s.last * h[j * wide + i];
    }
}

// Decays in order of processing: what v, o and h are multiplied with. Returns the factor that is still due at the end.
INLINE float decays(const float* g, int64_t L, float* grow, float* shrink, float* refresh) {
    double due = 0;  // a sum of many small numbers
    for (int64_t t = 0; t < L; ++t) {
        due += g[t];
        refresh[t] = 1.0f;
        if (due < LIMIT) { refresh[t] = std::exp(std::max((float)due, -80.0f)); due = 0; }
        const float now = std::exp((float)due);
        shrink[t] = now;
        grow[t] = 1.0f / now;
    }
    return std::exp((float)due);
}

struct Ssd {
    int64_t Bt, L; int H, P, G, N;
    const float *x, *dt, *A, *B, *C;
};

template <int W, int LB, int JT>
INLINE void ssd_forward(const Ssd& s, float* y, float* state) {
    const int R = s.H / s.G;
    const int64_t HP = (int64_t)s.H * s.P, GN = (int64_t)s.G * s.N, L = s.L;
    const int tiles = (s.N + JT - 1) / JT;
    std::vector<float> kq((size_t)tiles * L * 2 * JT), g(L), grow(L), shrink(L), refresh(L);
    std::vector<float> room((size_t)tiles * JT * LB * W + 2 * STRETCH * LB * W);
    std::memset(y, 0, sizeof(float) * s.Bt * L * HP);
    for (int64_t b = 0; b < s.Bt; ++b)
        for (int group = 0; group < s.G; ++group) {
            const int64_t at = b * L * GN + (int64_t)group * s.N;
            pack_rows<JT>(kq.data(), s.B + at, s.C + at, GN, GN, L, s.N);
            for (int head = group * R; head < (group + 1) * R; ++head) {
                const float* dt = s.dt + b * L * s.H + head;
                for (int64_t t = 0; t < L; ++t) g[t] = dt[t * s.H] * s.A[head];
                const float last = decays(g.data(), L, grow.data(), shrink.data(), refresh.data());
                for (int64_t t = 0; t < L; ++t) grow[t] *= dt[t * s.H];
                const int64_t lanes = b * L * HP + (int64_t)head * s.P;
                scan_head<W, LB, JT>({L, s.P, s.N, kq.data(), s.x + lanes, HP, grow.data(), y + lanes, HP,
                                      shrink.data(), refresh.data(), 1, state + (b * s.H + head) * s.P * s.N, s.N, 1,
                                      last}, room.data());
            }
        }
}

// out[t] = sum_ji a_t[j] M[j][i] b_t[i] for n rows of a and b, with M as a Scan saves a state.
template <int W, int LB>
INLINE void bilinear(float* out, const float* M, int rows, const float* a, int64_t step_a, int J, const float* b,
                     int64_t step_b, int I, int n) {
    typedef typename Lanes<W>::V V;
    constexpr int wide = LB * W, MANY = W / 2;  // as many sums as registers hold
    for (int t0 = 0; t0 < n; t0 += MANY) {
        const float* from[MANY];
        double sum[MANY] = {0};
        for (int u = 0; u < MANY; ++u) from[u] = a + std::min(t0 + u, n - 1) * step_a;
        for (int i0 = 0; i0 < I; i0 += wide) {
            const float* row = M + (size_t)i0 * rows;
            V part[MANY][LB] = {};
            for (int j = 0; j < J; ++j, row += wide)
                for (int l = 0; l < LB; ++l) {
                    const V m = load<W>(row + l * W);
                    for (int u = 0; u < MANY; ++u) part[u][l] += from[u][j] * m;
                }
            for (int u = 0; u < MANY && t0 + u < n; ++u)
                for (int l = 0; l < LB; ++l) {
                    const int at = i0 + l * W, lanes = std::min(W, I - at);
                    if (lanes <= 0) break;
                    float product[W];
                    store<W>(product, part[u][l] * some<W>(b + (t0 + u) * step_b + at, lanes));
                    for (int i = 0; i < lanes; ++i) sum[u] += product[i];
                }
        }
        for (int u = 0; u < MANY && t0 + u < n; ++u) out[t0 + u] = (float)sum[u];
    }
}

// out[u][s] = a_u . b_s for the steps s < u of a stretch, rows of K numbers; any finite number at other s.
template <int W>
INLINE void products(float* out, const float* a, int64_t step_a, const float* b, int64_t step_b, int K, int n,
                     float* turned) {
    typedef typename Lanes<W>::V V;
    constexpr int many = STRETCH / W;
    for (int k = 0; k < K; ++k)
        for (int s = 0; s < STRETCH; ++s) turned[k * STRETCH + s] = s < n ? b[s * step_b + k] : 0.0f;
    for (int u = 0; u < n; ++u) {
        const float* row = a + u * step_a;
        for (int m = 0; m < many; m += 2) {
            V sum[2] = {};
            for (int k = 0; k < K && m * W < u; ++k)
                for (int l = 0; l < 2; ++l) sum[l] += row[k] * load<W>(turned + k * STRETCH + (m + l) * W);
            for (int l = 0; l < 2; ++l) store<W>(out + u * STRETCH + (m + l) * W, sum[l]);
        }
    }
}

// A stretch of n steps of one head: decays, step sizes, and what its steps read and write.
struct Crossing {
    int n;
    const float *a, *dt;             // [n]
    const float *read;               // [n], what step u reads of the state before the stretch, if nothing decayed
    const float *write;              // [n], what step s writes to be read after the stretch, if nothing decayed
    const float *pairs_C, *pairs_x;  // [n][STRETCH], C_u . B_s and dy_u . x_s
    double through;                  // what the steps after the stretch read of the state before it, likewise
};

// <gradient of h_t, a_t h_{t-1}>, the gradient of log a_t: all that is written before step t and read at t or later.
// Only terms that belong to it are added. A difference of running sums is shorter, but keeps the rounding errors of
// every later step, which drown the gradient where most of it decays.
template <int W>
INLINE void crossing(double* log_a, const Crossing& c, float* pairs) {
    typedef typename Lanes<W>::V V;
    constexpr int many = STRETCH / W;
    const V smallest = V{} + 1e-30f;
    float decay[STRETCH] = {0}, step[STRETCH] = {0};
    std::memcpy(step, c.dt, sizeof(float) * c.n);
    double since[STRETCH + 1], kept = 1;
    since[0] = 1;
    for (int u = 0; u < c.n; ++u) {
        since[u + 1] = since[u] * c.a[u];
        for (int m = 0; m < many; ++m) {
            const int at = m * W;
            V d = load<W>(decay + at) * c.a[u];
            d = d < smallest ? V{} : d;
            store<W>(decay + at, d);
            store<W>(pairs + u * STRETCH + at, d * load<W>(step + at) * load<W>(c.pairs_C + u * STRETCH + at) *
                                                   load<W>(c.pairs_x + u * STRETCH + at));
        }
        decay[u] = 1.0f;  // what step u writes is read from the next step on
    }
    double written = 0, reads = 0;
    for (int t = 0; t < c.n; ++t) log_a[t] = c.through * since[c.n];
    for (int t = c.n - 1; t >= 0; --t) {
        reads += c.read[t] * since[t + 1];
        log_a[t] += reads;
    }
    double after[STRETCH];
    for (int s = c.n - 1; s >= 0; --s) { after[s] = kept; kept *= c.a[s]; }
    for (int t = 1; t < c.n; ++t) {
        written += (double)c.write[t - 1] * c.dt[t - 1] * after[t - 1];
        log_a[t] += written;
    }
    V sum[many] = {};
    for (int t = c.n - 1; t > 0; --t) {
        float row[STRETCH];
        for (int m = 0; m < many; ++m) {
            sum[m] += load<W>(pairs + t * STRETCH + m * W);
            store<W>(row + m * W, sum[m]);
        }
        double all = 0;
        for (int s = 0; s < t; ++s) all += row[s];
        log_a[t] += all;
    }
}

// Gradients of the forward; `state` is its first state. grad_state comes in as the gradient of the last state and goes
// out as that of the first.
template <int W, int LB, int JT>
INLINE void ssd_backward(const Ssd& s, const float* state, const float* grad_y, float* grad_state, float* dx,
                         float* ddt, float* dA, float* dB, float* dC) {
    const int R = s.H / s.G;
    const int64_t HP = (int64_t)s.H * s.P, GN = (int64_t)s.G * s.N, L = s.L, cells = (int64_t)s.P * s.N;
    const int wide = std::max(s.N, s.P), tiles = (wide + JT - 1) / JT, stretches = (int)((L + STRETCH - 1) / STRETCH);
    const int rows_P = (s.P + JT - 1) / JT * JT, rows_N = (s.N + JT - 1) / JT * JT;
    const int64_t before_size = (int64_t)rows_P * ((s.N + LB * W - 1) / (LB * W)) * LB * W;
    const int64_t later_size = (int64_t)rows_N * ((s.P + LB * W - 1) / (LB * W)) * LB * W;
    std::vector<float> kq((size_t)tiles * L * 2 * JT), bc((size_t)tiles * L * 2 * JT), back(L * (int64_t)wide * 2);
    std::vector<float> g(L), grow(L), shrink(L), refresh(L), grow_dt(L), shrink_dt(L), h(cells), a(L), dts(L);
    std::vector<float> room((size_t)tiles * JT * LB * W + 2 * STRETCH * LB * W);
    std::vector<float> before(stretches * before_size), later(stretches * later_size);
    std::vector<float> pairs_C((size_t)stretches * STRETCH * STRETCH), pairs_x(STRETCH * STRETCH);
    std::vector<float> pairs(STRETCH * STRETCH), turned((size_t)wide * STRETCH);
    auto reversed = [&](float* to, const float* from, int64_t step, int width) {
        for (int64_t t = 0; t < L; ++t) std::memcpy(to + t * width, from + (L - 1 - t) * step, sizeof(float) * width);
    };
    std::memset(dx, 0, sizeof(float) * s.Bt * L * HP);
    std::memset(dB, 0, sizeof(float) * s.Bt * L * GN);
    std::memset(dC, 0, sizeof(float) * s.Bt * L * GN);
    std::vector<double> sum_A(s.H, 0.0);
    for (int64_t b = 0; b < s.Bt; ++b)
        for (int group = 0; group < s.G; ++group) {
            const int64_t at = b * L * GN + (int64_t)group * s.N;
            const float *B = s.B + at, *C = s.C + at;
            reversed(back.data(), C, GN, s.N);
            reversed(back.data() + L * s.N, B, GN, s.N);
            pack_rows<JT>(bc.data(), back.data(), back.data() + L * s.N, s.N, s.N, L, s.N);
            for (int part = 0; part < stretches; ++part) {
                const int64_t t0 = (int64_t)part * STRETCH;
                products<W>(pairs_C.data() + t0 * STRETCH, C + t0 * GN, GN, B + t0 * GN, GN, s.N,
                            (int)std::min<int64_t>(STRETCH, L - t0), turned.data());
            }
            for (int head = group * R; head < (group + 1) * R; ++head) {
                const int64_t lanes = b * L * HP + (int64_t)head * s.P, cell = (b * s.H + head) * cells;
                const float *dt = s.dt + b * L * s.H + head, *x = s.x + lanes, *dy = grad_y + lanes;
                // Forward in time: the gradient of C.
                for (int64_t t = 0; t < L; ++t) {
                    dts[t] = dt[t * s.H];
                    g[t] = dts[t] * s.A[head];
                    a[t] = std::exp(std::max(g[t], -80.0f));
                }
                decays(g.data(), L, grow.data(), shrink.data(), refresh.data());
                for (int64_t t = 0; t < L; ++t) grow_dt[t] = grow[t] * dts[t];
                pack_rows<JT>(kq.data(), x, dy, HP, HP, L, s.P);
                std::memcpy(h.data(), state + cell, sizeof(float) * cells);
                scan_head<W, LB, JT>({L, s.N, s.P, kq.data(), B, GN, grow_dt.data(), dC + at, GN, shrink.data(),
                                      refresh.data(), 1, h.data(), 1, s.N, 1.0f, 0, before.data()}, room.data());
                // Backward in time: the gradients of dt x and of B.
                for (int64_t t = 0; t < L; ++t) g[t] = t ? dts[L - t] * s.A[head] : 0.0f;
                const float due = decays(g.data(), L, grow.data(), shrink.data(), refresh.data());
                for (int64_t t = 0; t < L; ++t) shrink_dt[t] = shrink[t] * dts[L - 1 - t];
                reversed(back.data(), dy, HP, s.P);
                reversed(back.data() + L * s.P, x, HP, s.P);
                pack_rows<JT>(kq.data(), back.data(), back.data() + L * s.P, s.P, s.P, L, s.P);
                std::memcpy(h.data(), grad_state + cell, sizeof(float) * cells);
                scan_head<W, LB, JT>({L, s.N, s.P, kq.data(), C, GN, grow.data(), dB + at, GN, shrink_dt.data(),
                                      refresh.data(), -1, h.data(), 1, s.N, 1.0f}, room.data());
                scan_head<W, LB, JT>({L, s.P, s.N, bc.data(), dy, HP, grow.data(), dx + lanes, HP, shrink.data(),
                                      refresh.data(), -1, grad_state + cell, s.N, 1, due * a[0], L % STRETCH,
                                      later.data()}, room.data());
                // The gradients of the decays, and with them those of dt and A.
                for (int part = 0; part < stretches; ++part) {
                    const int64_t t0 = (int64_t)part * STRETCH, end = std::min(L, t0 + STRETCH);
                    const int n = (int)(end - t0);
                    const float *H = before.data() + part * before_size;
                    const float *G = later.data() + (stretches - 1 - part) * later_size;
                    float read[STRETCH], write[STRETCH];
                    double log_a[STRETCH], through = 0;
                    bilinear<W, LB>(read, H, rows_P, dy + t0 * HP, HP, s.P, C + t0 * GN, GN, s.N, n);
                    bilinear<W, LB>(write, G, rows_N, B + t0 * GN, GN, s.N, x + t0 * HP, HP, s.P, n);
                    for (int p = 0; p < s.P; ++p) {
                        const float* later_p = G + (size_t)(p / (LB * W)) * rows_N * LB * W + p % (LB * W);
                        for (int i0 = 0; i0 < s.N; i0 += LB * W) {
                            const float* row = H + (size_t)(i0 / (LB * W) * rows_P + p) * LB * W;
                            float part[4] = {0};
                            for (int i = 0; i < LB * W && i < rows_N - i0; ++i)  // zeros beyond N
                                part[i & 3] += row[i] * later_p[(size_t)(i0 + i) * LB * W];
                            through += part[0] + part[1] + part[2] + part[3];
                        }
                    }
                    // The gradient after the stretch still lacks the decay of the step behind it.
                    const float into = end < L ? a[end] : 1.0f;
                    for (int t = 0; t < n; ++t) write[t] *= into;
                    products<W>(pairs_x.data(), dy + t0 * HP, HP, x + t0 * HP, HP, s.P, n, turned.data());
                    crossing<W>(log_a, {n, a.data() + t0, dts.data() + t0, read, write,
                                        pairs_C.data() + t0 * STRETCH, pairs_x.data(), through * into}, pairs.data());
                    for (int64_t t = t0; t < end; ++t) {
                        double wrote = 0;
                        float* d = dx + lanes + t * HP;
                        for (int p = 0; p < s.P; ++p) {
                            wrote += (double)x[t * HP + p] * d[p];
                            d[p] *= dts[t];
                        }
                        ddt[b * L * s.H + t * s.H + head] = (float)(wrote + log_a[t - t0] * s.A[head]);
                        sum_A[head] += log_a[t - t0] * dts[t];
                    }
                }
            }
        }
    for (int head = 0; head < s.H; ++head) dA[head] = (float)sum_A[head];
}

// exp of numbers that are not positive, given their logarithm to base 2: relative error 2e-7, never below 2^-126.
template <int W> INLINE typename Lanes<W>::V exp_base_2(typename Lanes<W>::V x) {
    typedef typename Lanes<W>::V V;
    typedef typename Lanes<W>::I I;
    const V low = V{} - 126.0f, magic = V{} + 12582912.0f;
    x = x < low ? low : x;
    const V whole = (x + magic) - magic, r = x - whole;
    V p = V{} + 1.5403530e-4f;
    p = p * r + 1.3333558e-3f;
    p = p * r + 9.6181291e-3f;
    p = p * r + 5.5504109e-2f;
    p = p * r + 2.4022651e-1f;
    p = p * r + 6.9314718e-1f;
    p = p * r + 1.0f;
    const I bits = (__builtin_convertvector(whole, I) + 127) << 23;
    return p * (V)bits;
}

struct Selective {
    int64_t Bt, L; int D, N;
    const float *x, *dt, *A, *B, *C;
};

constexpr float LOG2E = 1.4426950408889634f;

// A of a block of lanes, times log2(e): [N][W], zeros beyond D.
template <int W> INLINE void lanes_of_A(const Selective& s, int d0, int lanes, float* a) {
    std::memset(a, 0, sizeof(float) * s.N * W);
    for (int i = 0; i < lanes; ++i)
        for (int n = 0; n < s.N; ++n) a[n * W + i] = s.A[(int64_t)(d0 + i) * s.N + n] * LOG2E;
}

template <int W> INLINE void put(float* p, typename Lanes<W>::V v, int lanes) {
    if (lanes == W) { store<W>(p, v); return; }
    float row[W];
    store<W>(row, v);
    for (int i = 0; i < lanes; ++i) p[i] = row[i];
}

// JT states in registers, in one pass over the sequence for each JT of the N. starts, where wanted, keeps the state
// before every BLOCK steps: [b][block][d0 / W][N][W].
template <int W, int JT>
INLINE void selective_forward(const Selective& s, float* y, float* state, float* starts) {
    typedef typename Lanes<W>::V V;
    const int columns = (s.D + W - 1) / W;
    const int64_t blocks = (s.L + BLOCK - 1) / BLOCK;
    std::vector<float> a((size_t)s.N * W);
    for (int64_t b = 0; b < s.Bt; ++b)
        for (int column = 0; column < columns; ++column) {
            const int d0 = column * W, lanes = std::min(W, s.D - d0);
            lanes_of_A<W>(s, d0, lanes, a.data());
            for (int n0 = 0; n0 < s.N; n0 += JT) {
                const int many = std::min(JT, s.N - n0);
                V h[JT], A[JT];
                for (int j = 0; j < JT; ++j) {
                    float row[W] = {0};
                    for (int i = 0; i < lanes && j < many; ++i) row[i] = state[(b * s.D + d0 + i) * s.N + n0 + j];
                    h[j] = load<W>(row);
                    A[j] = j < many ? load<W>(a.data() + (n0 + j) * W) : V{};
                }
                for (int64_t t = 0; t < s.L; ++t) {
                    if (starts && t % BLOCK == 0)
                        for (int j = 0; j < many; ++j)
                            store<W>(starts + (((b * blocks + t / BLOCK) * columns + column) * s.N + n0 + j) * W, h[j]);
                    const int64_t at = (b * s.L + t) * s.D + d0;
                    if (t + 4 < s.L) {
                        __builtin_prefetch(s.x + at + 4 * s.D);
                        __builtin_prefetch(s.dt + at + 4 * s.D);
                    }
                    const V dt = some<W>(s.dt + at, lanes), write = dt * some<W>(s.x + at, lanes);
                    const float *B = s.B + (b * s.L + t) * s.N + n0, *C = s.C + (b * s.L + t) * s.N + n0;
                    V sum[2] = {V{}, V{}};
                    if (many == JT) {
                        for (int j = 0; j < JT; ++j) {
                            h[j] = exp_base_2<W>(dt * A[j]) * h[j] + write * B[j];
                            sum[j & 1] += h[j] * C[j];
                        }
                    } else {
                        for (int j = 0; j < JT; ++j) {
                            const float Bj = j < many ? B[j] : 0.0f, Cj = j < many ? C[j] : 0.0f;
                            h[j] = exp_base_2<W>(dt * A[j]) * h[j] + write * Bj;
                            sum[j & 1] += h[j] * Cj;
                        }
                    }
                    V all = sum[0] + sum[1];
                    if (n0) all += some<W>(y + at, lanes);
                    put<W>(y + at, all, lanes);
                }
                for (int j = 0; j < many; ++j) {
                    float row[W];
                    store<W>(row, h[j]);
                    for (int i = 0; i < lanes; ++i) state[(b * s.D + d0 + i) * s.N + n0 + j] = row[i];
                }
            }
        }
}

// A column of channels over the steps of a block, JT states in registers: forward once more, then back in time.
struct Column {
    const float *dt, *write, *dy;    // [steps][W]; rows of the sequence itself would meet in the same sets of the cache
    const float *B, *C;              // first row, steps of N, first state
    int N, steps, many;
    const float *A, *start;          // [JT][W]
    float *total, *back;             // [JT][W], gradients of A and of the state
    float *sum_B, *sum_C;            // [steps][N][W]
    float *dx, *ddt;                 // [steps][W], gradients of dt x and of dt by the decays, in base 2
};

template <int W, int JT, bool WHOLE>
INLINE void column_back(const Column& c) {
    typedef typename Lanes<W>::V V;
    const int many = WHOLE ? JT : c.many;  // a whole tile is unrolled
    V states[BLOCK + 1][JT], decay[BLOCK][JT], A[JT], h[JT];
    for (int j = 0; j < JT; ++j) {
        A[j] = j < many ? load<W>(c.A + j * W) : V{};
        states[0][j] = h[j] = j < many ? load<W>(c.start + j * W) : V{};
    }
    for (int t = 0; t < c.steps; ++t) {
        const V dt = load<W>(c.dt + t * W), write = load<W>(c.write + t * W), dy = load<W>(c.dy + t * W);
        for (int j = 0; j < JT; ++j) {
            if (j >= many) break;
            decay[t][j] = exp_base_2<W>(dt * A[j]);
            states[t + 1][j] = h[j] = decay[t][j] * h[j] + write * c.B[t * c.N + j];
            float* sum = c.sum_C + (t * c.N + j) * W;
            store<W>(sum, load<W>(sum) + h[j] * dy);
        }
    }
    V back[JT], total[JT];
    for (int j = 0; j < JT; ++j) {
        back[j] = j < many ? load<W>(c.back + j * W) : V{};
        total[j] = j < many ? load<W>(c.total + j * W) : V{};
    }
    for (int t = c.steps - 1; t >= 0; --t) {
        const V dt = load<W>(c.dt + t * W), write = load<W>(c.write + t * W), dy = load<W>(c.dy + t * W);
        V grad_write = load<W>(c.dx + t * W), grad_dt = load<W>(c.ddt + t * W);
        for (int j = 0; j < JT; ++j) {
            if (j >= many) break;
            const V g = back[j] + dy * c.C[t * c.N + j];
            back[j] = g * decay[t][j];
            const V log_a = back[j] * states[t][j];
            grad_write += g * c.B[t * c.N + j];
            grad_dt += log_a * A[j];
            total[j] += log_a * dt;
            float* sum = c.sum_B + (t * c.N + j) * W;
            store<W>(sum, load<W>(sum) + g * write);
        }
        store<W>(c.dx + t * W, grad_write);
        store<W>(c.ddt + t * W, grad_dt);
    }
    for (int j = 0; j < many; ++j) { store<W>(c.back + j * W, back[j]); store<W>(c.total + j * W, total[j]); }
}

// Gradients; block by block from the end, all channels of a block before the next, so that the sums over channels
// (the gradients of B and C) stay in vectors until the block is done.
template <int W, int JT>
INLINE void selective_backward(const Selective& s, const float* starts, const float* grad_y, float* grad_state,
                               float* dx, float* ddt, float* dA, float* dB, float* dC) {
    const int columns = (s.D + W - 1) / W, N = s.N;
    const int64_t blocks = (s.L + BLOCK - 1) / BLOCK, size = (int64_t)N * W;
    std::vector<float> a(columns * size), sum_A(columns * size), carried(columns * size);
    std::vector<float> sum_B(BLOCK * size), sum_C(BLOCK * size);
    float x[BLOCK * W], dt[BLOCK * W], write[BLOCK * W], dy[BLOCK * W], grad_write[BLOCK * W], grad_dt[BLOCK * W];
    for (int column = 0; column < columns; ++column)
        lanes_of_A<W>(s, column * W, std::min(W, s.D - column * W), a.data() + column * size);
    for (int64_t b = 0; b < s.Bt; ++b) {
        std::fill(carried.begin(), carried.end(), 0.0f);
        for (int d = 0; d < s.D; ++d)
            for (int n = 0; n < N; ++n) carried[(d / W) * size + n * W + d % W] = grad_state[(b * s.D + d) * N + n];
        for (int64_t block = blocks - 1; block >= 0; --block) {
            const int64_t row = b * s.L + block * BLOCK;
            const int steps = (int)std::min<int64_t>(BLOCK, s.L - block * BLOCK);
            std::fill(sum_B.begin(), sum_B.end(), 0.0f);
            std::fill(sum_C.begin(), sum_C.end(), 0.0f);
            for (int column = 0; column < columns; ++column) {
                const int d0 = column * W, lanes = std::min(W, s.D - d0);
                const int64_t at = row * s.D + d0;
                for (int t = 0; t < steps; ++t) {
                    const int64_t here = at + t * s.D;
                    const auto step = some<W>(s.dt + here, lanes), in = some<W>(s.x + here, lanes);
                    store<W>(dt + t * W, step);
                    store<W>(x + t * W, in);
                    store<W>(write + t * W, step * in);
                    store<W>(dy + t * W, some<W>(grad_y + here, lanes));
                }
                std::memset(grad_write, 0, sizeof(grad_write));
                std::memset(grad_dt, 0, sizeof(grad_dt));
                for (int n0 = 0; n0 < N; n0 += JT) {
                    const int64_t state = column * size + n0 * W;
                    const Column c = {
                        dt, write, dy, s.B + row * N + n0, s.C + row * N + n0, N, steps, std::min(JT, N - n0),
                        a.data() + state, starts + (b * blocks + block) * columns * size + state,
                        sum_A.data() + state, carried.data() + state, sum_B.data() + n0 * W, sum_C.data() + n0 * W,
                        grad_write, grad_dt};
                    if (c.many == JT) column_back<W, JT, true>(c);
                    else column_back<W, JT, false>(c);
                }
                for (int t = 0; t < steps; ++t) {
                    const int64_t here = at + t * s.D;
                    const auto wrote = load<W>(grad_write + t * W), decay = load<W>(grad_dt + t * W);
                    put<W>(dx + here, wrote * load<W>(dt + t * W), lanes);
                    put<W>(ddt + here, decay * (1.0f / LOG2E) + wrote * load<W>(x + t * W), lanes);
                }
            }
            for (int t = 0; t < steps; ++t)
                for (int n = 0; n < N; ++n) {
                    float in_B = 0, in_C = 0;
                    for (int i = 0; i < W; ++i) {
                        in_B += sum_B[t * size + n * W + i];
                        in_C += sum_C[t * size + n * W + i];
                    }
                    dB[(row + t) * N + n] = in_B;
                    dC[(row + t) * N + n] = in_C;
                }
        }
        for (int d = 0; d < s.D; ++d)
            for (int n = 0; n < N; ++n) grad_state[(b * s.D + d) * N + n] = carried[(d / W) * size + n * W + d % W];
    }
    for (int d = 0; d < s.D; ++d)
        for (int n = 0; n < N; ++n) dA[(int64_t)d * N + n] = sum_A[(d / W) * size + n * W + d % W];
}

}  // namespace

#define SSD_ARGUMENTS int64_t Bt, int64_t L, int H, int P, int G, int N, const float *x, const float *dt, \
    const float *A, const float *B, const float *C
#define SCAN_ARGUMENTS int64_t Bt, int64_t L, int D, int N, const float *x, const float *dt, const float *A, \
    const float *B, const float *C
#define SSD {Bt, L, H, P, G, N, x, dt, A, B, C}
#define SCAN {Bt, L, D, N, x, dt, A, B, C}

// The same code for each instruction set: lanes of a vector, vectors side by side, rows of a tile.
#define FORMS(SET, TARGET, W, LB, JT, NT) \
    TARGET void ssd_forward_##SET(SSD_ARGUMENTS, float* y, float* state) { ssd_forward<W, LB, JT>(SSD, y, state); } \
    TARGET void ssd_backward_##SET(SSD_ARGUMENTS, const float* state, const float* grad_y, float* grad_state, \
                                   float* dx, float* ddt, float* dA, float* dB, float* dC) { \
        ssd_backward<W, LB, JT>(SSD, state, grad_y, grad_state, dx, ddt, dA, dB, dC); } \
    TARGET void scan_forward_##SET(SCAN_ARGUMENTS, float* y, float* state, float* starts) { \
        selective_forward<W, NT>(SCAN, y, state, starts); } \
    TARGET void scan_backward_##SET(SCAN_ARGUMENTS, const float* starts, const float* grad_y, float* grad_state, \
                                    float* dx, float* ddt, float* dA, float* dB, float* dC) { \
        selective_backward<W, NT>(SCAN, starts, grad_y, grad_state, dx, ddt, dA, dB, dC); }

FORMS(plain, , 4, 1, 4, 4)
#if defined(__x86_64__)
FORMS(avx2, __attribute__((target("avx2,fma"))), 8, 2, 4, 4)
FORMS(avx512, __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512"))), 16, 2, 8, 8)
#define CHOOSE(NAME, ...) \
    switch (m3et_level()) { \
        case 2: NAME##_avx512(__VA_ARGS__); break; \
        case 1: NAME##_avx2(__VA_ARGS__); break; \
        default: NAME##_plain(__VA_ARGS__); }
#else
#define CHOOSE(NAME, ...) NAME##_plain(__VA_ARGS__);
#endif

static int forced = -1;

extern "C" {

// 0 plain, 1 AVX2 with FMA, 2 AVX-512: what this CPU has, or less where m3et_force asked for less.
int m3et_level() {
    int found = 0;
#if defined(__x86_64__)
    static const int best = [] {
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) return 2;
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 1 : 0;
    }();
    found = best;
#endif
    return forced >= 0 && forced < found ? forced : found;
}

void m3et_force(int level) { forced = level; }

int m3et_lanes() { return m3et_level() == 2 ? 16 : m3et_level() == 1 ? 8 : 4; }

void m3et_ssd_forward(SSD_ARGUMENTS, float* y, float* state) {
    CHOOSE(ssd_forward, Bt, L, H, P, G, N, x, dt, A, B, C, y, state)
}

void m3et_ssd_backward(SSD_ARGUMENTS, const float* state, const float* grad_y, float* grad_state, float* dx,
                       float* ddt, float* dA, float* dB, float* dC) {
    CHOOSE(ssd_backward, Bt, L, H, P, G, N, x, dt, A, B, C, state, grad_y, grad_state, dx, ddt, dA, dB, dC)
}

void m3et_scan_forward(SCAN_ARGUMENTS, float* y, float* state, float* starts) {
    CHOOSE(scan_forward, Bt, L, D, N, x, dt, A, B, C, y, state, starts)
}

void m3et_scan_backward(SCAN_ARGUMENTS, const float* starts, const float* grad_y, float* grad_state, float* dx,
                        float* ddt, float* dA, float* dB, float* dC) {
    CHOOSE(scan_backward, Bt, L, D, N, x, dt, A, B, C, starts, grad_y, grad_state, dx, ddt, dA, dB, dC)
}

}
