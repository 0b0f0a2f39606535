// Shared by the parts of this program: checks that count, and a trace that must come out in order.
#pragma once
#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

extern int failures;
extern std::vector<std::string> trace;

inline void check_at(bool ok, const char *what, const char *file, int line) {
  if (!ok) {
    ++failures;
    std::cout << "FAILED " << file << ':' << line << ": " << what << '\n';
  }
}
#define CHECK(condition) check_at((condition), #condition, __FILE__, __LINE__)

// Joins and empties the trace.
inline std::string take_trace() {
  std::string joined;
  for (const std::string &entry : trace) {
    if (!joined.empty()) joined += ' ';
    joined += entry;
  }
  trace.clear();
  return joined;
}

// Leaves its name in the trace when it goes out of scope: shows that unwinding ran each cleanup, once, in order.
struct Guard {
  std::string name;
  explicit Guard(std::string text) : name(std::move(text)) { trace.push_back("+" + name); }
  Guard(const Guard &) = delete;
  Guard &operator=(const Guard &) = delete;
  ~Guard() { trace.push_back("-" + name); }
};

// A small generator, so that no input and no library's `rand` decides what runs.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint32_t next() {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<std::uint32_t>(state_ >> 33);
  }
  std::uint32_t below(std::uint32_t limit) { return next() % limit; }

 private:
  std::uint64_t state_;
};

// The parts. Each returns a checksum that depends on what it executed.
std::uint64_t exceptions_part(Random &random, int rounds);
std::uint64_t specifications_part(Random &random, int rounds);
std::uint64_t hierarchy_part(Random &random, int rounds);
std::uint64_t interpreter_part(Random &random, int rounds);
std::uint64_t containers_part(Random &random, int rounds);
