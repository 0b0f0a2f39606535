# Other parts of the interpreter than train.pl: objects, formats, pack, recursion, sprintf, local, tie, string eval.
use strict;
use warnings;

package Stack {
  sub new { bless { items => [] }, shift }
  sub push { my ($self, @items) = @_; CORE::push @{ $self->{items} }, @items; $self }
  sub pop { my $self = shift; die "empty\n" unless @{ $self->{items} }; CORE::pop @{ $self->{items} } }
  sub DESTROY { $main::destroyed++ }
}
package Loud { our @ISA = ('Stack'); sub pop { my $self = shift; 'loud ' . $self->SUPER::pop() } }
package Upper { sub TIESCALAR { my $value = ''; bless \$value } sub FETCH { uc ${ $_[0] } } sub STORE { ${ $_[0] } = $_[1] } }

package main;
our $destroyed = 0;
{
  my $stack = Loud->new->push(1 .. 5);
  print 'stack ', join(',', map { $stack->pop } 1 .. 5), "\n";
  eval { $stack->pop; 1 } or print 'refused ', $@;
}
print "destroyed $destroyed\n";
for (1 .. 5000) { my $stack = Stack->new->push($_); $stack->pop }
print "destroyed $destroyed\n";

sub ackermann { my ($m, $n) = @_; no warnings 'recursion'; $m == 0 ? $n + 1 : ackermann($m - 1, $n == 0 ? 1 : ackermann($m, $n - 1)) }
print 'ackermann ', ackermann(2, 60), "\n";

my $json = qr/(?<value>\{(?:\s*"[^"]*"\s*:\s*(?&value)\s*,?)*\}|\[(?:\s*(?&value)\s*,?)*\]|"[^"]*"|-?\d+(?:\.\d+)?|true|false|null)/;
my $document = '{"a": [1, 2, {"b": "c"}], "d": -2.5, "e": [[[[]]]]}';
print 'json ', ($document =~ /^$json$/ ? 'matches' : 'no'), ' ', ('{"a": [1, }' =~ /^$json$/ ? 'matches' : 'no'), "\n";

my @packed = map { pack 'NnCa3w', $_, $_ % 65536, $_ % 256, "x$_", $_ } 1 .. 3000;
my $sum = 0;
for (@packed) { my @fields = unpack 'NnCa3w', $_; $sum += $fields[0] ^ $fields[4] ^ length $fields[3] }
print "pack $sum ", unpack('%32C*', join '', @packed), "\n";

tie my $upper, 'Upper';
$upper = 'tied';
print "tie $upper\n";
our $global = 'outer';
sub show { $global }
sub inner { local $global = 'inner'; show() }
print 'local ', inner(), ' ', show(), "\n";
print 'eval ', eval('my $x = 6; $x * 7'), ' ', defined eval('1 + (') ? 'parsed' : 'syntax error', "\n";

my %words;
open my $handle, '<', \join("\n", map { join ' ', map { chr(97 + $_ % 26) x (1 + $_ % 5) } $_ .. $_ + 9 } 1 .. 4000) or die;
while (my $line = <$handle>) { chomp $line; $words{$_} .= length $line for split ' ', $line }
print 'words ', join(',', map { "$_=" . length $words{$_} } (sort keys %words)[0 .. 4]), "\n";
my @sorted = sort { lc $a cmp lc $b or $b cmp $a } map { sprintf '%s%05d', ($_ % 2 ? 'A' : 'a'), $_ * 31 % 5000 } 1 .. 8000;
print "sorted $sorted[0] $sorted[-1] ", unpack('%32C*', join '', @sorted), "\n";
my $sieve = '';
my $primes = 0;
for my $i (2 .. 60000) { next if vec $sieve, $i, 1; $primes++; for (my $j = $i * $i; $j <= 60000; $j += $i) { vec($sieve, $j, 1) = 1 } }
print "primes $primes\n";
printf "formats %05.2f|%-6s|%+d|%x|%e|%s\n", 3.14159, 'ab', 7, 255, 12345.678, join ':', map { sprintf '%b', $_ } 1 .. 4;
(my $translated = 'Hello, World') =~ tr/a-zA-Z/n-za-mN-ZA-M/;
print "tr $translated ", scalar reverse('abc'), ' ', join('|', 'a1b22c' =~ /([a-z]\d*)/g), "\n";
