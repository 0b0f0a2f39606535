// A program that leans on everything a post-link optimizer may break in C++: exceptions through many frames and out of
// split functions, rethrow, exception specifications, destructors in order, virtual and multiple inheritance, member
// pointers, switch tables, templates, containers, streams, static initialization, and function addresses as values.
//
//   cxx SEED ROUNDS
//
// Prints one line per part and ends with status 0 when every check held. Standard output depends on the arguments alone.
#include "check.h"

#include <cstdlib>

int failures = 0;
std::vector<std::string> trace;

namespace {
// Runs before main through .init_array, and throws there.
struct Early {
  int value = 0;
  Early() {
    try {
      throw 41;
    } catch (int caught) {
      value = caught + 1;
    }
  }
  ~Early() {
    // Runs after main through atexit handlers.
    std::cout << "late " << value << '\n';
  }
} early;
}  // namespace

int main(int argc, char **argv) {
  const std::uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 10;
  CHECK(early.value == 42);

  struct Part {
    const char *name;
    std::uint64_t (*run)(Random &, int);
  };
  static const Part parts[] = {
      {"exceptions", exceptions_part},
      {"specifications", specifications_part},
      {"hierarchy", hierarchy_part},
      {"interpreter", interpreter_part},
      {"containers", containers_part},
  };
  Random random(seed);
  for (const Part &part : parts) {
    std::cout << part.name << ' ' << std::hex << part.run(random, rounds) << std::dec << '\n';
  }
  std::cout << (failures == 0 ? "ok" : "FAILED") << '\n';
  return failures == 0 ? 0 : 1;
}
