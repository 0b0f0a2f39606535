// Throwing code that the compiler moved to .cold parts, with landing pads there; many call sites.
//@ profile: instrumented
#include "../program.h"
#include <cstdio>
#include <stdexcept>
#include <string>
__attribute__((cold, noinline)) static void fail(const char *what, int n) { throw std::runtime_error(std::string(what) + std::to_string(n)); }
struct Count { static int live; Count() { live++; } ~Count() { live--; } };
int Count::live;
NOINLINE int work(int n) {
    Count c;
    std::string s = "n=";
    if (__builtin_expect(n < 0, 0)) fail("negative ", n);
    s += std::to_string(n);
    for (int i = 0; i < n; i++) {
        Count d;
        s += 'x';
        if (__builtin_expect(i == 5, 0)) { std::string more = s + "!"; fail(more.c_str(), i); }
        try { if (__builtin_expect(i == 3, 0)) fail("inner ", i); if (i == 4 && n == 5) throw i; }
        catch (const std::runtime_error &e) { s += e.what(); }
    }
    return (int)s.size();
}
PROGRAM {
    for (int n = -2; n < 8; n++) {
        try { std::printf("%d %d\n", n, work(n)); }
        catch (const std::exception &e) { std::printf("%d %s\n", n, e.what()); }
        catch (int v) { std::printf("%d int %d\n", n, v); }
        std::printf("live %d\n", Count::live);
    }
    return 0;
}
