//! A terminal, as far as the progress tree uses one.

/// Lines and a cursor.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

impl Screen {
    /// Takes bytes as a terminal does; what it does not know is a panic.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let text = std::str::from_utf8(bytes).expect("frames are UTF-8");
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '\r' => self.column = 0,
                '\n' => {
                    self.row += 1;
                    self.column = 0;
                }
                '\x1b' => self.escape(&mut rest),
                c => self.put(c),
            }
        }
    }

    /// What is seen, without trailing blanks.
    pub(crate) fn text(&self) -> String {
        let lines = self.lines.iter().map(|line| line.iter().collect::<String>());
        let text: String = lines.map(|line| format!("{}\n", line.trim_end())).collect();
        format!("{}\n", text.trim_end())
    }

    fn put(&mut self, c: char) {
        if self.lines.len() <= self.row {
            self.lines.resize(self.row + 1, Vec::new());
        }
        let line = &mut self.lines[self.row];
        if line.len() <= self.column {
            line.resize(self.column + 1, ' ');
        }
        line[self.column] = c;
        self.column += 1;
    }

    fn clear_line(&mut self) {
        if let Some(line) = self.lines.get_mut(self.row) {
            line.truncate(self.column);
        }
    }

    fn escape(&mut self, rest: &mut std::str::Chars<'_>) {
        assert_eq!(rest.next(), Some('['), "only control sequences are used");
        let mut parameters = String::new();
        let last = loop {
            match rest.next().expect("a sequence ends") {
                c @ '@'..='~' => break c,
                c => parameters.push(c),
            }
        };
        match last {
            'A' => {
                let rows: usize = parameters.parse().expect("a number of rows");
                self.row = self.row.checked_sub(rows).expect("the cursor stays on the screen");
            }
            'K' => self.clear_line(),
            'J' => {
                assert!(self.row > 0, "clearing the whole screen may scroll it");
                self.lines.truncate(self.row + 1);
                self.clear_line();
            }
            'm' | 'h' | 'l' => {}
            other => panic!("unknown sequence ESC [ {parameters} {other}"),
        }
    }
}
