// A foreign exception raised by hand: seen by catch (...), rethrown, cleaned up; and forced unwinding.
#include "../program.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unwind.h>
struct Trace { const char *name; ~Trace() { std::printf("~%s\n", name); } };
static _Unwind_Exception foreign;
static void deleted(_Unwind_Reason_Code, _Unwind_Exception *) { std::puts("deleted"); }
NOINLINE void raise_foreign() { Trace t{"raise"}; std::memcpy(&foreign.exception_class, "TESTTEST", 8); foreign.exception_cleanup = deleted; _Unwind_RaiseException(&foreign); std::puts("nobody"); }
NOINLINE void passes() { Trace t{"passes"}; try { raise_foreign(); } catch (int) { std::puts("wrong"); } }
NOINLINE void rethrows() { try { passes(); } catch (...) { std::puts("rethrow"); throw; } }
static int frames;
static _Unwind_Reason_Code stop(int, _Unwind_Action action, _Unwind_Exception_Class, _Unwind_Exception *, _Unwind_Context *, void *) {
    if (action & _UA_END_OF_STACK) { std::puts("end of stack"); std::fflush(stdout); std::_Exit(frames > 2 ? 0 : 9); }
    frames++;
    return _URC_NO_REASON;
}
NOINLINE void force(int n) { Trace t{"force"}; if (n) force(n - 1); else _Unwind_ForcedUnwind(&foreign, stop, nullptr); std::puts("never"); }
PROGRAM {
    try { rethrows(); } catch (...) { std::puts("caught foreign"); }
    std::memset(&foreign, 0, sizeof foreign);
    force(2);
    return 1;
}
