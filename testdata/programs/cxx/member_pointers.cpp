// Pointers to member functions: bit 0 means virtual, so the functions must stay at even addresses, at -Os too.
//@ build: tag=O2
//@ build: tag=Os
//@ flags: -Os
//@ build: tag=Oz compilers=clang
//@ flags: -Oz
#include "../program.h"
#include <cstdio>
struct Machine {
    int state = 1;
    virtual ~Machine() {}
    NOINLINE void add() { state += 3; }
    NOINLINE void twice() { state *= 2; }
    NOINLINE void flip() { state = -state; }
    NOINLINE void clamp() { if (state > 100) state = 100; }
    NOINLINE void say() const { std::printf("state %d\n", state); }
    virtual void change() { state ^= 5; }
    virtual void reset() { state = 0; }
};
struct Extended : Machine { void change() override { state ^= 85; } };
using Step = void (Machine::*)();
static const Step program[] = {&Machine::add, &Machine::twice, &Machine::change, &Machine::flip, &Machine::clamp, &Machine::twice, &Machine::change, &Machine::reset, &Machine::add};
static void (Machine::*const volatile report)() const = &Machine::say;
NOINLINE void run(Machine &m) { for (Step s : program) { (m.*s)(); (m.*report)(); } }
PROGRAM {
    Machine m; Extended e;
    run(m); run(e);
    std::printf("%d %d\n", program[0] == &Machine::add, program[2] == &Machine::change);
    return 0;
}
