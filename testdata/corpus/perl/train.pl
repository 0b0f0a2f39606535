# Hashes, regular expressions, sorting, closures, die and eval.
use strict;
use warnings;

my %count;
my $text = join ' ', map { sprintf 'w%03x', ($_ * 7919) % 613 } 1 .. 40000;
$count{$1}++ while $text =~ /w([0-9a-f]{2})/g;
my @top = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
print "count $top[0] $count{$top[0]} ", scalar(@top), "\n";
(my $swapped = $text) =~ s/w(.)(.)(.)/$3$2$1/g;
print 'swapped ', unpack('%32C*', $swapped), "\n";
my @makers = map { my $n = $_; sub { $n += shift; $n } } 1 .. 50;
my $sum = 0;
for my $round (1 .. 2000) { $sum += $makers[$round % 50]->($round) }
print "closures $sum\n";
my $caught = 0;
for my $i (1 .. 20000) {
  eval { die { code => $i } if $i % 3 == 0; 1 } or $caught += $@->{code} % 7;
}
print "caught $caught\n";
my @matrix = map { my $i = $_; [map { $i * $_ % 10 } 1 .. 60] } 1 .. 60;
my $trace = 0;
for my $i (0 .. 59) { for my $k (0 .. 59) { $trace += $matrix[$i][$k] * $matrix[$k][$i] } }
print "trace $trace\n";
