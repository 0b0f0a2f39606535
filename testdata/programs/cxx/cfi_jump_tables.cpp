// -fsanitize=cfi: calls check by arithmetic that a pointer leads to one of the jumps of a table. Each of their symbols has the size of the table.
//@ build: compilers=clang kinds=exec,pie,so linkers=lld tag=full
//@ flags: -flto -fvisibility=hidden -fsanitize=cfi -fsanitize-trap=cfi
//@ build: compilers=clang kinds=exec,pie,so linkers=lld tag=thin
//@ flags: -flto=thin -fvisibility=hidden -fsanitize=cfi -fsanitize-trap=cfi
#include "../program.h"
#include <cstdio>
struct Base { virtual int value(int x) { return x + 1; } virtual ~Base() {} };
struct Twice : Base { int value(int x) override { return x * 2; } };
struct Throws : Base { int value(int x) override { if (x > 3) throw x; return x - 7; } };
static int one(int x) { return x + 1; }
static int two(int x) { return x + 2; }
static int three(int x) { return x * 3; }
int four(int x) { return x ^ 5; }
typedef int (*function)(int);
static function volatile table[] = {one, two, three, four};
NOINLINE Base *make(int k) { switch (k % 3) { case 0: return new Base; case 1: return new Twice; } return new Throws; }
PROGRAM {
    long sum = 0;
    for (int i = 0; i < 24; i++) {
        Base *object = make(i);
        try { sum = sum * 3 % 99991 + object->value(i % 6) + table[i & 3](i); } catch (int x) { sum += x; }
        delete object;
    }
    std::printf("%ld\n", sum);
    return 0;
}
