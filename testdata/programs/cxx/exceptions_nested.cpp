// Throw and catch: nested handlers, by value, reference, pointer and base class; rethrow; destructors on the way.
//@ gdb: raise_error
#include "../program.h"
#include <cstdio>
#include <stdexcept>
#include <string>
struct Trace { const char *name; explicit Trace(const char *n) : name(n) {} ~Trace() { std::printf("~%s\n", name); } };
struct Base { virtual ~Base() {} virtual const char *name() const { return "Base"; } };
struct Left : virtual Base { const char *name() const override { return "Left"; } };
struct Right : virtual Base { const char *name() const override { return "Right"; } };
struct Both : Left, Right { const char *name() const override { return "Both"; } };
NOINLINE void raise_error(int n) {
    Trace t("raise");
    switch (n) {
    case 0: throw 42;
    case 1: throw std::string("text");
    case 2: throw std::out_of_range("range");
    case 3: throw Both();
    case 4: throw "literal";
    case 5: { static Left left; throw (Base *)&left; }
    case 6: throw 2.5;
    default: std::puts("no throw");
    }
}
NOINLINE int inner(int n) {
    Trace t("inner");
    try { Trace u("try"); raise_error(n); }
    catch (int v) { std::printf("int %d\n", v); return v; }
    catch (const std::string &s) { std::printf("string %s\n", s.c_str()); throw; }
    catch (const Right &r) { Trace w("handler"); std::printf("right %s\n", r.name()); throw std::runtime_error("replaced"); }
    return 0;
}
NOINLINE int outer(int n) {
    try {
        try { return inner(n); }
        catch (const std::logic_error &e) { std::printf("logic %s\n", e.what()); throw; }
        catch (const char *s) { std::printf("chars %s\n", s); return -1; }
        catch (Base *p) { std::printf("pointer %s\n", p->name()); return -2; }
    }
    catch (const std::exception &e) { std::printf("exception %s\n", e.what()); return -3; }
    catch (...) { std::puts("something"); return -4; }
}
PROGRAM { for (int n = 0; n < 8; n++) std::printf("%d: %d\n", n, outer(n)); return 0; }
