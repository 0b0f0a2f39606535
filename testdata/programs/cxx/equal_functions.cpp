// Equal functions with handlers and cleanups: exceptions through one that stands for others, and virtual ones, which stay apart.
//@ gcc: -fno-ipa-icf
//@ profile: instrumented
#include "../program.h"
#include <cstdio>
#include <stdexcept>
#include <string>
static volatile int alive, seen;
struct Guard { int id; explicit Guard(int n) : id(n) { alive = alive + 1; } ~Guard() { alive = alive - 1; seen = seen * 3 + id; } };
template <int Tag> NOINLINE int may_throw(int n) {
    if (n % 7 == 0) throw std::runtime_error("seven");
    if (n % 5 == 0) throw n;
    return n + 1;
}
// The same code for all tags, but for the callees, which are equal themselves.
template <int Tag> NOINLINE int guarded(int n) {
    Guard outer(1);
    try {
        Guard inner(2);
        return may_throw<Tag>(n);
    } catch (const std::runtime_error &e) {
        return -int(e.what()[0]);
    }
}
template <int Tag> NOINLINE int nested(int n) { Guard guard(3); return n % 4 ? nested<Tag>(n - 1) + guarded<Tag>(n) : n; }
// The same code, but another type is caught.
struct First { int n; };
struct Second { int n; };
template <class T> NOINLINE int caught(int n) {
    try {
        if (n % 2) throw First{n};
        throw Second{n};
    } catch (const T &t) { return t.n; } catch (...) { return -1; }
}
template <class T> NOINLINE int guess(int n) { try { return caught<T>(n); } catch (int) { return 0; } }
// Equal members of different classes: told apart by pointers to members.
struct Base { virtual int get(int n) = 0; virtual ~Base() = default; };
struct Left : Base { int get(int n) override { seen = n; return n + 4; } NOINLINE int own(int n) { seen = n; return n * 9; } };
struct Right : Base { int get(int n) override { seen = n; return n + 4; } NOINLINE int own(int n) { seen = n; return n * 9; } };
NOINLINE static int use(Base &base, int n) { return base.get(n); }
template <int Tag> NOINLINE int attempt(int n) {
    try { return nested<Tag>(n); } catch (int e) { return 1000 + e; } catch (...) { return -1000; }
}
PROGRAM {
    for (int n = 0; n < 12; n++) {
        std::printf("%d %d %d ", attempt<1>(n), attempt<2>(n), attempt<3>(n));
        std::printf("%d %d %d %d\n", guess<First>(n), guess<Second>(n), int(alive), int(seen) & 0xffff);
    }
    Left left;
    Right right;
    std::printf("%d %d %d\n", use(left, 1), use(right, 2), left.own(3) + right.own(4));
    static int (Left::*volatile member)(int) = &Left::own;
    std::printf("%d\n", (left.*member)(5));
    return 0;
}
