// What every camera frame passes before and after the model, as OpenCV computes it and in fewer passes over memory:
// means over areas of colours and of depth with holes, and the likeliest class of every pixel of the model's square.
// `m3et build kernels` compiles this file together with the scans.
//
// Plain C interface, no header but the standard library's. The order of the sums of colours is that of OpenCV's resize,
// so that a compiler without fused multiply-adds (x86-64 as such) gives the same bits; depth is summed down the columns
// first, which a compiler makes vectors of.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))
// AVX2 without fused multiply-adds, where the CPU has it.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("avx2", "default")))
#else
#define CLONES
#endif

namespace {

constexpr float FINITE = 3.402823466e38f;  // the largest float

typedef float V __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t I __attribute__((vector_size(16), aligned(4), may_alias));

// The source pixels that a cell covers: from `first` on, with their weights from `at` on.
struct Cell { int first, count, at; };

// The cells of an axis; as computeResizeAreaTab of OpenCV.
struct Axis {
    std::vector<Cell> cells;
    std::vector<float> weights;
    Axis(int size, int count);
};

Axis::Axis(int size, int count) {
    const double scale = 1.0 / (double(count) / size);
    for (int to = 0; to < count; ++to) {
        const double begin = to * scale, end = begin + scale, width = std::min(scale, size - begin);
        int first = (int)std::ceil(begin), last = std::min((int)std::floor(end), size - 1);
        first = std::min(first, last);
        const bool before = first - begin > 1e-3, after = end - last > 1e-3;
        cells.push_back({first - before, last - first + before + after, (int)weights.size()});
        if (before) weights.push_back(float((first - begin) / width));
        weights.insert(weights.end(), last - first, float(1.0 / width));
        if (after) weights.push_back(float(std::min(std::min(end - last, 1.0), width) / width));
    }
}

// Sums the rows of each cell, weighed, into n numbers: read(y, row) gives a row, done(cell, sum) gets the sum.
template <class Read, class Done>
INLINE void down(const Axis& axis, int n, Read read, Done done) {
    std::vector<float> rows(n + 4), sums(n);
    float *row = rows.data(), *sum = sums.data();
    for (size_t to = 0; to < axis.cells.size(); ++to) {
        const Cell cell = axis.cells[to];
        for (int k = 0; k < cell.count; ++k) {
            read(cell.first + k, row);
            const float weight = axis.weights[cell.at + k];
            if (k == 0)
                for (int i = 0; i < n; ++i) sum[i] = weight * row[i];
            else
                for (int i = 0; i < n; ++i) sum[i] += weight * row[i];
        }
        done((int)to, sum);
    }
}

// The two source pixels that each of `size` pixels lies between, and the share of the second; as OpenCV's resize.
struct Between {
    std::vector<int> from, to;
    std::vector<float> share;
    Between(int side, int size) : from(size), to(size), share(size) {
        const double scale = 1.0 / (double(size) / side);
        for (int i = 0; i < size; ++i) {
            const float place = (float)((i + 0.5) * scale - 0.5);
            const int low = (int)std::floor(place);
            share[i] = low < 0 || low >= side - 1 ? 0.0f : place - low;
            from[i] = std::min(std::max(low, 0), side - 1);
            to[i] = std::min(from[i] + 1, side - 1);
        }
    }
};

}  // namespace

extern "C" {

// Colours [height][width][3] to planes [3][size][size]: means over areas, rounded to whole numbers, times factor[3]
// less offset[3].
CLONES void m3et_area_rgb(const uint8_t* rgb, int height, int width, int size, const float* factor,
                          const float* offset, float* out) {
    const Axis across(width, size), along(height, size);
    std::vector<float> colours(3 * width + 1);
    auto read = [&](int y, float* row) INLINE_LAMBDA {
        const uint8_t* at = rgb + (int64_t)y * width * 3;
        float* colour = colours.data();
        for (int i = 0; i < 3 * width; ++i) colour[i] = at[i];
        for (const Cell& cell : across.cells) {
            const float* weight = &across.weights[cell.at];
            V total = {0, 0, 0, 0};
            // The fourth lane belongs to the next pixel and is not read again.
            for (int k = 0; k < cell.count; ++k) total += *(V*)(colour + 3 * (cell.first + k)) * weight[k];
            *(V*)row = total;
            row += 4;
        }
    };
    down(along, 4 * size, read, [&](int y, const float* sum) INLINE_LAMBDA {
        for (int c = 0; c < 3; ++c) {
            float* to = out + ((int64_t)c * size + y) * size;
            const float times = factor[c], less = offset[c];
            // Beyond 2^23 a float has no fraction: adding that rounds half to even.
            for (int x = 0; x < size; ++x) to[x] = (sum[4 * x + c] + 12582912.0f - 12582912.0f) * times - less;
        }
    });
}

// Depth [height][width], NaN or infinite where unknown, to [size][size]: means over the known pixels of an area, NaN
// where less than a thousandth of it is known.
CLONES void m3et_area_depth(const float* depth, int height, int width, int size, float* out) {
    const Axis across(width, size), along(height, size);
    std::vector<float> sums(width), shares(width);
    for (const Cell& rows : along.cells) {
        std::fill(sums.begin(), sums.end(), 0.0f);
        std::fill(shares.begin(), shares.end(), 0.0f);
        float *sum = sums.data(), *share = shares.data();
        for (int k = 0; k < rows.count; ++k) {
            const float weight = along.weights[rows.at + k];
            const float* at = depth + (int64_t)(rows.first + k) * width;
            for (int x = 0; x < width; ++x) {
                const bool known = std::fabs(at[x]) <= FINITE;
                // Selected before the products, which a compiler makes no vectors of under a condition.
                const float value = known ? at[x] : 0.0f, one = known ? 1.0f : 0.0f;
                sum[x] += weight * value;
                share[x] += weight * one;
            }
        }
        for (const Cell& columns : across.cells) {
            const float* weight = &across.weights[columns.at];
            float total = 0, known = 0;
            for (int k = 0; k < columns.count; ++k) {
                total += weight[k] * sum[columns.first + k];
                known += weight[k] * share[columns.first + k];
            }
            *out++ = known > 1e-3f ? total / known : NAN;
        }
    }
}

// Depth [height][width], both even, to half of it: means of the known of two by two, NaN where none is.
CLONES void m3et_halve_depth(const float* depth, int height, int width, float* out) {
    for (int y = 0; y < height; y += 2) {
        const float *above = depth + (int64_t)y * width, *below = above + width;
        for (int x = 0; x < width; x += 2) {
            float sum[4] = {above[x], above[x + 1], below[x], below[x + 1]}, count = 0;
            for (float& value : sum) {
                const bool known = std::fabs(value) <= FINITE;
                value = known ? value : 0.0f;
                count += known ? 1.0f : 0.0f;
            }
            *out++ = (sum[0] + sum[1] + (sum[2] + sum[3])) / count;
        }
    }
}

// Depth [height][width] with its unknown pixels from coarse [rows][columns], enlarged linearly; NaN where that is not
// positive.
CLONES void m3et_join_depth(const float* depth, int height, int width, const float* coarse, int rows, int columns,
                            float* out) {
    const Between down(rows, height), across(columns, width);
    for (int y = 0; y < height; ++y, depth += width, out += width) {
        const float *above = coarse + (int64_t)down.from[y] * columns, *below = coarse + (int64_t)down.to[y] * columns;
        const float lower = down.share[y], upper = 1.0f - lower;
        for (int x = 0; x < width; ++x) {
            out[x] = depth[x];
            if (std::fabs(depth[x]) <= FINITE) continue;
            const int from = across.from[x], to = across.to[x];
            const float right = across.share[x], left = 1.0f - right;
            const float value = (above[from] * left + above[to] * right) * upper +
                                (below[from] * left + below[to] * right) * lower;
            out[x] = value > 0 ? value : NAN;
        }
    }
}

// The likeliest class of every pixel of [size][size] from scores [classes][side][side] that are enlarged linearly.
// Between four neighbours of one class lies nothing else, so only the others are computed. Returns 0, with nothing
// written, if a score is not finite.
CLONES int m3et_best_class(const float* scores, int classes, int side, int size, uint8_t* out) {
    const int area = side * side, lanes = (classes + 3) / 4 * 4, total = classes * area;
    int wrong = 0;
    for (int i = 0; i < total; ++i) wrong |= !(std::fabs(scores[i]) <= FINITE);
    if (wrong) return 0;
    // Classes last; in blocks that stay in the nearest cache.
    std::vector<float> at((size_t)area * lanes, -FINITE);
    for (int block = 0; block < area; block += 16)
        for (int c = 0; c < classes; ++c)
            for (int i = block; i < std::min(block + 16, area); ++i)
                at[(size_t)i * lanes + c] = scores[(size_t)c * area + i];
    std::vector<float> best(scores, scores + area);
    std::vector<int32_t> id(area, 0), cell(side);
    for (int c = 1; c < classes; ++c) {
        const float* plane = scores + (size_t)c * area;
        for (int i = 0; i < area; ++i) {
            id[i] = plane[i] > best[i] ? c : id[i];
            best[i] = plane[i] > best[i] ? plane[i] : best[i];
        }
    }
    const Between places(side, size);
    const std::vector<int>&from = places.from, &to = places.to;
    const std::vector<float>& share = places.share;
    for (int y = 0; y < size; ++y) {
        const int32_t *above = &id[from[y] * side], *below = &id[to[y] * side];
        for (int i = 0; i < side; ++i) {
            const int next = std::min(i + 1, side - 1);
            const bool same = above[i] == above[next] && above[i] == below[i] && above[i] == below[next];
            cell[i] = same ? above[i] : -1;
        }
        for (int x = 0; x < size; ++x) {
            int found = cell[from[x]];
            if (found < 0) {
                const float right = share[x], left = 1.0f - right, lower = share[y], upper = 1.0f - lower;
                const float *a = &at[(size_t)(from[y] * side + from[x]) * lanes];
                const float *b = &at[(size_t)(from[y] * side + to[x]) * lanes];
                const float *c = &at[(size_t)(to[y] * side + from[x]) * lanes];
                const float *d = &at[(size_t)(to[y] * side + to[x]) * lanes];
                V top = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
                I first = {0, 0, 0, 0}, here = {0, 1, 2, 3};
                for (int l = 0; l < lanes; l += 4, here += 4) {
                    const V value = (*(V*)(a + l) * left + *(V*)(b + l) * right) * upper +
                                    (*(V*)(c + l) * left + *(V*)(d + l) * right) * lower;
                    const I more = value > top;
                    top = more ? value : top;
                    first = more ? here : first;
                }
                int lane = 0;
                for (int l = 1; l < 4; ++l)
                    if (top[l] > top[lane] || (top[l] == top[lane] && first[l] < first[lane])) lane = l;
                found = first[lane];
            }
            out[(int64_t)y * size + x] = (uint8_t)found;
        }
    }
    return 1;
}

}  // extern "C"
