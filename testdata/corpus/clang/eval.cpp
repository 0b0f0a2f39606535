// Evaluation input of the compiler, unlike the training input: other headers, template metaprogramming, exceptions, virtual
// inheritance, concepts, threads, numerics, switch statements, lambdas, intrinsic-like loops. It is compiled, not run.
#include <array>
#include <atomic>
#include <bitset>
#include <charconv>
#include <chrono>
#include <complex>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <forward_list>
#include <future>
#include <iomanip>
#include <iterator>
#include <limits>
#include <list>
#include <locale>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <queue>
#include <random>
#include <ranges>
#include <set>
#include <shared_mutex>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <tuple>
#include <type_traits>
#include <typeindex>
#include <unordered_set>
#include <valarray>
#include <variant>
#include <vector>

namespace meta {
template <typename... Types> struct List {};
template <typename L> struct Length;
template <typename... Types> struct Length<List<Types...>> : std::integral_constant<std::size_t, sizeof...(Types)> {};
template <typename L, template <typename> typename F> struct Map;
template <typename... Types, template <typename> typename F> struct Map<List<Types...>, F> { using type = List<typename F<Types>::type...>; };
template <std::size_t N, typename... Types> struct Repeat : Repeat<N - 1, int[N], Types...> {};
template <typename... Types> struct Repeat<0, Types...> { using type = List<Types...>; };
template <typename T> struct Pointer { using type = T *; };
using Many = Map<Repeat<150>::type, Pointer>::type;
static_assert(Length<Many>::value == 150);
constexpr std::uint64_t collatz(std::uint64_t n) { return n == 1 ? 0 : 1 + collatz(n % 2 ? 3 * n + 1 : n / 2); }
template <std::size_t... I> constexpr auto table(std::index_sequence<I...>) { return std::array<std::uint64_t, sizeof...(I)>{collatz(I + 1)...}; }
constexpr auto steps = table(std::make_index_sequence<200>{});
}  // namespace meta

template <typename T>
concept Number = std::is_arithmetic_v<T> && !std::is_same_v<T, bool>;

template <Number T, std::size_t Rows, std::size_t Columns>
class Matrix {
 public:
  constexpr T &operator()(std::size_t row, std::size_t column) { return cells_[row * Columns + column]; }
  constexpr T operator()(std::size_t row, std::size_t column) const { return cells_[row * Columns + column]; }
  template <std::size_t Other>
  constexpr Matrix<T, Rows, Other> operator*(const Matrix<T, Columns, Other> &right) const {
    Matrix<T, Rows, Other> result;
    for (std::size_t i = 0; i < Rows; ++i)
      for (std::size_t k = 0; k < Columns; ++k)
        for (std::size_t j = 0; j < Other; ++j) result(i, j) += (*this)(i, k) * right(k, j);
    return result;
  }

 private:
  std::array<T, Rows * Columns> cells_{};
};
template class Matrix<double, 4, 4>;
template class Matrix<float, 16, 16>;
template class Matrix<int, 3, 7>;
double product(const Matrix<double, 4, 4> &a, const Matrix<double, 4, 4> &b) { return (a * b * a * b)(1, 2); }
float product(const Matrix<float, 16, 16> &a) { return (a * a * a)(3, 5); }

struct ParseError : std::runtime_error {
  std::size_t at;
  ParseError(std::size_t where, const std::string &what) : std::runtime_error(what), at(where) {}
};
struct Value;
using Object = std::vector<std::pair<std::string, Value>>;
using Array = std::vector<Value>;
struct Value {
  std::variant<std::nullptr_t, bool, double, std::string, Array, Object> data;
};

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}
  Value parse() {
    Value value = element();
    if (at_ != text_.size()) throw ParseError(at_, "trailing text");
    return value;
  }

 private:
  void space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
  }
  bool accept(char wanted) {
    space();
    if (at_ < text_.size() && text_[at_] == wanted) return ++at_, true;
    return false;
  }
  Value element() {
    space();
    if (at_ == text_.size()) throw ParseError(at_, "end of text");
    switch (text_[at_]) {
      case 'n': return word("null", nullptr);
      case 't': return word("true", true);
      case 'f': return word("false", false);
      case '"': return {string()};
      case '[': return list();
      case '{': return object();
      case '-': case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9': return number();
      default: throw ParseError(at_, std::string("unexpected ") + text_[at_]);
    }
  }
  template <typename T> Value word(std::string_view name, T value) {
    if (text_.substr(at_, name.size()) != name) throw ParseError(at_, "bad word");
    at_ += name.size();
    return {value};
  }
  Value number() {
    double result = 0;
    auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), result);
    if (error != std::errc()) throw ParseError(at_, "bad number");
    at_ = static_cast<std::size_t>(end - text_.data());
    return {result};
  }
  std::string string() {
    std::string result;
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] != '\\') { result += text_[at_]; continue; }
      switch (++at_ < text_.size() ? text_[at_] : '\0') {
        case 'n': result += '\n'; break;
        case 't': result += '\t'; break;
        case 'b': result += '\b'; break;
        case '\\': case '"': case '/': result += text_[at_]; break;
        default: throw ParseError(at_, "bad escape");
      }
    }
    if (at_++ >= text_.size()) throw ParseError(at_, "open string");
    return result;
  }
  Value list() {
    Array array;
    ++at_;
    if (accept(']')) return {std::move(array)};
    do array.push_back(element()); while (accept(','));
    if (!accept(']')) throw ParseError(at_, "] expected");
    return {std::move(array)};
  }
  Value object() {
    Object members;
    ++at_;
    if (accept('}')) return {std::move(members)};
    do {
      space();
      std::string key = string();
      if (!accept(':')) throw ParseError(at_, ": expected");
      members.emplace_back(std::move(key), element());
    } while (accept(','));
    if (!accept('}')) throw ParseError(at_, "} expected");
    return {std::move(members)};
  }
  std::string_view text_;
  std::size_t at_ = 0;
};
Value parse(std::string_view text) { return Parser(text).parse(); }

template <typename Task> class Pool {
 public:
  explicit Pool(unsigned count) {
    for (unsigned i = 0; i < count; ++i) workers_.emplace_back([this](std::stop_token stop) { work(stop); });
  }
  void add(Task task) {
    std::scoped_lock lock(mutex_);
    tasks_.push(std::move(task));
    ready_.notify_one();
  }

 private:
  void work(std::stop_token stop) {
    while (!stop.stop_requested()) {
      std::unique_lock lock(mutex_);
      if (!ready_.wait(lock, stop, [this] { return !tasks_.empty(); })) return;
      Task task = std::move(tasks_.front());
      tasks_.pop();
      lock.unlock();
      try {
        task();
      } catch (const std::exception &) {
        ++failed_;
      }
    }
  }
  std::mutex mutex_;
  std::condition_variable_any ready_;
  std::queue<Task> tasks_;
  std::atomic<int> failed_{0};
  std::vector<std::jthread> workers_;
};
template class Pool<std::packaged_task<int()>>;

struct Animal { virtual ~Animal() = default; virtual int legs() const { return 4; } };
struct Flying : virtual Animal { int legs() const override { return 2; } virtual double span() const { return 1.5; } };
struct Swimming : virtual Animal { virtual int depth() const { return 10; } };
struct Duck final : Flying, Swimming { int legs() const override { return 2; } int depth() const override { return 2; } };
int total_legs(std::span<const std::unique_ptr<Animal>> animals) {
  return std::accumulate(animals.begin(), animals.end(), 0, [](int sum, const auto &animal) {
    const auto *swimming = dynamic_cast<const Swimming *>(animal.get());
    return sum + animal->legs() + (swimming ? swimming->depth() : 0);
  });
}

std::map<std::string, std::uintmax_t> sizes(const std::filesystem::path &where) {
  std::map<std::string, std::uintmax_t> result;
  std::error_code error;
  for (const auto &entry : std::filesystem::recursive_directory_iterator(where, error))
    if (entry.is_regular_file(error)) result[entry.path().extension().string()] += entry.file_size(error);
  return result;
}

std::vector<int> evens(const std::vector<int> &numbers) {
  std::vector<int> result;
  for (int square : numbers | std::views::filter([](int n) { return n % 2 == 0; }) | std::views::transform([](int n) { return n * n; }) | std::views::take(50))
    result.push_back(square);
  std::ranges::sort(result, std::greater{});
  return result;
}

std::complex<double> transform(std::valarray<std::complex<double>> values) {
  const std::size_t half = values.size() / 2;
  if (half == 0) return values.size() ? values[0] : 0.0;
  std::valarray<std::complex<double>> even = values[std::slice(0, half, 2)], odd = values[std::slice(1, half, 2)];
  return transform(even) + std::polar(1.0, -3.14159 / static_cast<double>(half)) * transform(odd);
}

std::string report(const std::set<std::string> &names, std::chrono::milliseconds spent, std::uint32_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> bell(0, 1);
  std::ostringstream out;
  for (const auto &name : names) out << std::left << std::setw(20) << name << std::scientific << bell(engine) << ' ' << std::bitset<16>(engine()) << '\n';
  out << std::put_time(std::localtime(std::array<std::time_t, 1>{spent.count()}.data()), "%F") << meta::steps[seed % meta::steps.size()];
  return out.str();
}
