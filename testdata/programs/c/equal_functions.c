// Equal functions: of those that are only called one may stand for the others, those whose addresses are compared stay apart.
//@ flags: -O2 -funwind-tables
//@ gcc: -fno-ipa-icf
//@ profile: instrumented
#include "../program.h"
#include <stdio.h>
#include <unwind.h>
#define TWICE(macro) macro(a) macro(b)
typedef int (*function)(int);
static volatile int sink;
// Only called, from several places; one of each pair is called by an equal function.
#define CALLED(x) NOINLINE static int called_##x(int n) { for (int i = 0; i < 3; i++) sink += n ^ i; return n * 3 + sink % 2; }
TWICE(CALLED)
#define CALLER(x) NOINLINE static int caller_##x(int n) { return called_##x(n + 1) - called_##x(n); }
TWICE(CALLER)
// Each calls itself, or its twin's twin.
#define RECURSIVE(x) NOINLINE static int recursive_##x(int n) { return n <= 0 ? sink & 1 : n + recursive_##x(n - 1) * 3; }
TWICE(RECURSIVE)
#define MUTUAL(x) \
    static int odd_##x(int n); \
    NOINLINE static int even_##x(int n) { sink = n; return n == 0 ? 100 : 1 + odd_##x(n - 1); } \
    NOINLINE static int odd_##x(int n) { sink = -n; return n == 0 ? 200 : 2 + even_##x(n - 1); }
TWICE(MUTUAL)
// One is a value as well, both are, and neither but in a table of one of them.
#define TAKEN(x) NOINLINE static int taken_##x(int n) { sink = n; return n * 5 + 2; }
TWICE(TAKEN)
#define COMPARED(x) NOINLINE static int compared_##x(int n) { sink = n; return n * 7 + 3; }
TWICE(COMPARED)
static function volatile chosen = taken_a;
static function const table[] = {compared_a, compared_b, compared_a};
// Equal but for a constant, a place, a callee that must stay itself.
NOINLINE static int constant_a(int n) { sink = 11; return n - 11; }
NOINLINE static int constant_b(int n) { sink = 11; return n - 12; }
static int place_a_word, place_b_word;
#define PLACE(x) NOINLINE static int place_##x(int n) { return place_##x##_word += n; }
TWICE(PLACE)
#define CALLEE(x) NOINLINE static int callee_##x(int n) { return compared_##x(n) + sink; }
TWICE(CALLEE)
// How deep the stack is, seen from equal functions.
static _Unwind_Reason_Code count(struct _Unwind_Context *context, void *depth) {
    (void)context;
    ++*(int *)depth;
    return _URC_NO_REASON;
}
#define DEPTH(x) NOINLINE static int depth_##x(void) { int depth = 0; _Unwind_Backtrace(count, &depth); sink = depth; return depth; }
TWICE(DEPTH)
#define DEEPER(x) NOINLINE static int deeper_##x(int n) { int depth = n > 0 ? deeper_##x(n - 1) : depth_##x(); sink = depth; return depth; }
TWICE(DEEPER)
PROGRAM {
    printf("%d %d\n", caller_a(4) - caller_b(5), called_a(2) + called_b(3));
    printf("%d %d %d %d\n", recursive_a(5), recursive_b(6), even_a(5) - odd_b(6), even_b(3) + odd_a(2));
    printf("%d %d %d\n", chosen == taken_a, chosen(3), taken_b(4));
    printf("%d %d %d\n", table[0] == table[1], table[0] == table[2], table[1](2));
    printf("%d %d %d %d %d %d\n", constant_a(20), constant_b(20), place_a(3), place_b(4), place_a(5), callee_a(1) - callee_b(2));
    printf("%d %d %d\n", deeper_a(4) - deeper_a(0), deeper_b(7) - deeper_b(0), depth_a() - depth_b());
    return 0;
}
