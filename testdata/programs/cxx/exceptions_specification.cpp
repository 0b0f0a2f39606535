// Exception specifications: filters in the action table (C++14), noexcept, terminate and unexpected handlers.
//@ flags: -std=c++14 -fexceptions
//@ exit: 7
#include "../program.h"
#include <cstdio>
#include <cstdlib>
#include <exception>
struct A {};
struct B : A {};
NOINLINE void filtered(int n) throw(A, int) { if (n == 0) throw B(); if (n == 1) throw 5; if (n == 2) throw 2.5; if (n == 3) throw "text"; }
NOINLINE void nothing(int n) throw() { if (n) throw n; }
static int unexpected_calls;
static void on_unexpected() { std::printf("unexpected %d\n", ++unexpected_calls); if (unexpected_calls > 2) std::terminate(); throw 77; }
static void on_terminate() { std::puts("terminate"); std::fflush(stdout); std::_Exit(7); }
PROGRAM {
    std::set_unexpected(on_unexpected);
    std::set_terminate(on_terminate);
    for (int n = 0; n < 5; n++) {
        try { filtered(n); std::puts("fine"); }
        catch (A &) { std::puts("A"); }
        catch (int v) { std::printf("int %d\n", v); }
    }
    nothing(0);
    nothing(1);
    return 1;
}
