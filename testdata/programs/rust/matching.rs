// Large matches: an interpreter, enums with data, strings, ranges, nested patterns.
#[derive(Clone, Debug, PartialEq)]
enum Token { Number(f64), Plus, Minus, Star, Slash, Caret, Open, Close, Name(String), Comma }
fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let bytes: Vec<char> = text.chars().collect();
    let (mut out, mut i) = (Vec::new(), 0);
    while i < bytes.len() {
        let token = match bytes[i] {
            ' ' | '\t' => { i += 1; continue; }
            '0'..='9' | '.' => {
                let start = i;
                while i < bytes.len() && matches!(bytes[i], '0'..='9' | '.') { i += 1; }
                let text: String = bytes[start..i].iter().collect();
                out.push(Token::Number(text.parse().map_err(|_| format!("number {text}"))?));
                continue;
            }
            'a'..='z' => {
                let start = i;
                while i < bytes.len() && bytes[i].is_ascii_lowercase() { i += 1; }
                out.push(Token::Name(bytes[start..i].iter().collect()));
                continue;
            }
            '+' => Token::Plus, '-' => Token::Minus, '*' => Token::Star, '/' => Token::Slash,
            '^' => Token::Caret, '(' => Token::Open, ')' => Token::Close, ',' => Token::Comma,
            other => return Err(format!("character {other:?}")),
        };
        out.push(token);
        i += 1;
    }
    Ok(out)
}
struct Parser { tokens: Vec<Token>, at: usize }
impl Parser {
    fn peek(&self) -> Option<&Token> { self.tokens.get(self.at) }
    fn next(&mut self) -> Option<Token> { self.at += 1; self.tokens.get(self.at - 1).cloned() }
    fn binary(&mut self, level: u8) -> Result<f64, String> {
        let mut left = self.unary()?;
        loop {
            let (power, right_first) = match self.peek() {
                Some(Token::Plus | Token::Minus) => (1, false),
                Some(Token::Star | Token::Slash) => (2, false),
                Some(Token::Caret) => (3, true),
                _ => return Ok(left),
            };
            if power < level { return Ok(left); }
            let operator = self.next();
            let right = self.binary(if right_first { power } else { power + 1 })?;
            left = match operator {
                Some(Token::Plus) => left + right,
                Some(Token::Minus) => left - right,
                Some(Token::Star) => left * right,
                Some(Token::Slash) if right == 0.0 => return Err("division by zero".into()),
                Some(Token::Slash) => left / right,
                Some(Token::Caret) => left.powf(right),
                other => return Err(format!("{other:?}")),
            };
        }
    }
    fn unary(&mut self) -> Result<f64, String> {
        match self.next() {
            Some(Token::Number(v)) => Ok(v),
            Some(Token::Minus) => Ok(-self.unary()?),
            Some(Token::Open) => { let v = self.binary(0)?; match self.next() { Some(Token::Close) => Ok(v), other => Err(format!("no close: {other:?}")) } }
            Some(Token::Name(name)) => match (name.as_str(), self.peek()) {
                ("pi", _) => Ok(3.25),
                ("two", _) => Ok(2.0),
                ("max" | "min" | "hyp", Some(Token::Open)) => {
                    self.next();
                    let a = self.binary(0)?;
                    if self.next() != Some(Token::Comma) { return Err("no comma".into()); }
                    let b = self.binary(0)?;
                    if self.next() != Some(Token::Close) { return Err("no close".into()); }
                    Ok(match name.as_str() { "max" => a.max(b), "min" => a.min(b), _ => (a * a + b * b).sqrt() })
                }
                (other, _) => Err(format!("name {other}")),
            },
            other => Err(format!("unexpected {other:?}")),
        }
    }
}
fn run() -> i32 {
    for text in ["1 + 2*3", "(1+2)*3 - -4", "2^3^2", "max(3, hyp(3,4)) / two", "1/0", "pi * (2", "foo", "3 $ 4", "min(1)", "1.2.3", ""] {
        let result = tokens(text).and_then(|tokens| Parser { tokens, at: 0 }.binary(0));
        println!("{text}: {result:?}");
    }
    0
}

#[no_mangle]
pub extern "C" fn program_main() -> i32 {
    run()
}

#[cfg(not(so))]
fn main() {
    std::process::exit(program_main());
}
