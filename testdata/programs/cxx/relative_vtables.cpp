// clang's relative vtables: 32-bit differences instead of pointers.
//@ build: compilers=clang
//@ flags: -fexperimental-relative-c++-abi-vtables -fno-rtti
#include "../program.h"
#include <cstdio>
struct Base { virtual int f(int x) { return x; } virtual int g(int x) { return x + 1; } };
struct One : Base { int f(int x) override { return x * 2; } };
struct Two : One { int g(int x) override { return x * 3; } virtual int h() { return 9; } };
NOINLINE int use(Base *b, int x) { return b->f(x) * 100 + b->g(x); }
PROGRAM { Base b; One o; Two t; Base *all[] = {&b, &o, &t}; for (Base *p : all) std::printf("%d\n", use(p, 7)); std::printf("%d\n", t.h()); return 0; }
