// Jump tables and landing pads in one function, at several levels, also with the asynchronous and large code model options.
//@ build: tag=O2
//@ build: tag=O1-non-call
//@ flags: -O1 -fnon-call-exceptions -fasynchronous-unwind-tables
//@ build: tag=sections linkers=ld,lld
//@ flags: -O2 -ffunction-sections -Wl,--gc-sections
//@ build: tag=large kinds=exec,static linkers=ld,lld,gold
//@ flags: -O2 -mcmodel=large
#include "../program.h"
#include <cstdio>
#include <string>
#include <vector>
NOINLINE int parse(const std::vector<std::string> &words) {
    int depth = 0, value = 0;
    for (const auto &w : words) {
        std::string copy = w;
        try {
            switch (copy.empty() ? 'z' : copy[0]) {
            case 'a': value += 1; break;
            case 'b': { std::string t = copy + copy; value += (int)t.size(); break; }
            case 'c': if (depth > 2) throw std::string("deep"); depth++; break;
            case 'd': if (depth == 0) throw depth; depth--; break;
            case 'e': std::puts("e"); value = -value; break;
            case 'f': throw 1.5;
            case 'g': value *= 3; break;
            default: throw copy;
            }
        }
        catch (int) { std::puts("underflow"); }
        catch (const std::string &s) { std::printf("string %s\n", s.c_str()); if (s == "stop") throw; }
        value += depth;
    }
    return value;
}
PROGRAM {
    const std::vector<std::string> inputs[] = {{"a", "bb", "c", "e", "d", "d"}, {"c", "c", "c", "c", "g", "a"}, {"a", "f", "a"}, {"b", "stop", "a"}, {"", "a", "zz", "g"}};
    for (const auto &words : inputs) try { std::printf("%d\n", parse(words)); } catch (double d) { std::printf("double %g\n", d); } catch (const std::string &s) { std::printf("out %s\n", s.c_str()); }
    return 0;
}
