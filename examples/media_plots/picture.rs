//! A small picture of lines over time, in eight colours, and its PNG (RFC 2083).

use flate2::Compression;
use flate2::write::ZlibEncoder;
use std::io::Write;

const WIDTH: usize = 720;
const HEIGHT: usize = 470;
const LEFT: usize = 52;
const RIGHT: usize = 12;
const PANEL_TOP: usize = 34;
const PANEL_HEIGHT: usize = 112;
const PANEL_STEP: usize = 142;

/// Paper, grid, ink, and the colours of lines.
const PALETTE: [[u8; 3]; 8] = [
    [255, 255, 255],
    [224, 224, 224],
    [48, 48, 48],
    [31, 119, 180],
    [214, 120, 20],
    [190, 30, 45],
    [0, 0, 0],
    [0, 0, 0],
];
const GRID: u8 = 1;
const INK: u8 = 2;
const LINES: u8 = 3;

/// A part of the picture with axes of its own.
pub(crate) struct Panel {
    /// Which, from the top.
    pub(crate) top: usize,
    pub(crate) least: f32,
    pub(crate) most: f32,
    /// Between lines of the grid.
    pub(crate) steps: u8,
    /// Seconds from left to right.
    pub(crate) span: f32,
    pub(crate) label: &'static str,
}

impl Panel {
    fn above(&self) -> usize {
        PANEL_TOP + self.top * PANEL_STEP
    }

    fn across(&self, seconds: f32) -> f32 {
        LEFT as f32 + seconds / self.span * (WIDTH - LEFT - RIGHT - 1) as f32
    }

    fn down(&self, value: f32) -> f32 {
        let part = ((value - self.least) / (self.most - self.least)).clamp(0.0, 1.0);
        self.above() as f32 + (1.0 - part) * (PANEL_HEIGHT - 1) as f32
    }
}

/// A picture in the making.
pub(crate) struct Picture {
    pixels: Vec<u8>,
}

impl Picture {
    pub(crate) fn new() -> Self {
        Self { pixels: vec![0; WIDTH * HEIGHT] }
    }

    pub(crate) fn title(&mut self, text: &str) {
        self.text(LEFT, 4, text, INK);
    }

    /// Draws the grid, with what it measures.
    pub(crate) fn panel(&mut self, panel: &Panel) {
        self.text(LEFT, panel.above() - 11, panel.label, INK);
        for step in 0..=panel.steps {
            let value =
                panel.least + (panel.most - panel.least) * f32::from(step) / f32::from(panel.steps);
            let y = panel.down(value);
            self.stroke((LEFT as f32, y), (panel.across(panel.span), y), GRID);
            let text = format!("{value}");
            self.text(LEFT - 6 - 6 * text.len(), (y as usize).saturating_sub(3), &text, INK);
        }
        for tens in 0..=(panel.span / 10.0) as u8 {
            let at = f32::from(tens) * 10.0;
            let x = panel.across(at);
            let (top, bottom) = (panel.down(panel.most), panel.down(panel.least));
            self.stroke((x, top), (x, bottom), GRID);
            let text = format!("{at} s");
            self.text((x as usize).saturating_sub(3 * text.len()), bottom as usize + 4, &text, INK);
        }
    }

    /// Draws a line through these points, with its name above the panel: the first of them leftmost.
    pub(crate) fn line(&mut self, panel: &Panel, colour: u8, name: &str, points: &[(f32, f32)]) {
        let colour = LINES + colour % 3;
        for pair in points.windows(2) {
            if let [one, two] = pair {
                let place = |point: &(f32, f32)| (panel.across(point.0), panel.down(point.1));
                self.stroke(place(one), place(two), colour);
            }
        }
        let x = WIDTH - 90 * usize::from(colour - LINES) - 110;
        let y = panel.above() - 11;
        self.stroke((x as f32, y as f32 + 3.0), (x as f32 + 14.0, y as f32 + 3.0), colour);
        self.text(x + 20, y, name, INK);
    }

    fn dot(&mut self, x: usize, y: usize, colour: u8) {
        if x < WIDTH
            && let Some(pixel) = self.pixels.get_mut(y * WIDTH + x)
        {
            *pixel = colour;
        }
    }

    fn stroke(&mut self, from: (f32, f32), to: (f32, f32), colour: u8) {
        let (across, down) = (to.0 - from.0, to.1 - from.1);
        let steps = across.abs().max(down.abs()).ceil().max(1.0);
        for step in 0..=steps as u32 {
            let part = step as f32 / steps;
            let (x, y) = (from.0 + across * part, from.1 + down * part);
            self.dot(x.round() as usize, y.round() as usize, colour);
            if colour >= LINES {
                self.dot(x.round() as usize, y.round() as usize + 1, colour);
            }
        }
    }

    fn text(&mut self, x: usize, y: usize, text: &str, colour: u8) {
        for (number, letter) in text.chars().enumerate() {
            for (row, bits) in glyph(letter.to_ascii_uppercase()).into_iter().enumerate() {
                for column in 0..5 {
                    if bits >> (4 - column) & 1 == 1 {
                        self.dot(x + 6 * number + column, y + row, colour);
                    }
                }
            }
        }
    }

    /// The picture as a file, four bits a pixel.
    pub(crate) fn png(&self) -> Vec<u8> {
        let mut rows = Vec::with_capacity(HEIGHT * (WIDTH / 2 + 1));
        for row in self.pixels.chunks_exact(WIDTH) {
            // No filter.
            rows.push(0);
            rows.extend(row.as_chunks::<2>().0.iter().map(|[one, two]| one << 4 | two));
        }
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
        // Writing to a `Vec` does not fail.
        packed.write_all(&rows).unwrap_or_default();
        let packed = packed.finish().unwrap_or_default();
        let mut head = Vec::new();
        head.extend((WIDTH as u32).to_be_bytes());
        head.extend((HEIGHT as u32).to_be_bytes());
        // Four bits, by palette; the usual compression and filters, not interlaced.
        head.extend([4, 3, 0, 0, 0]);
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        chunk(&mut file, *b"IHDR", &head);
        chunk(&mut file, *b"PLTE", PALETTE.as_flattened());
        chunk(&mut file, *b"IDAT", &packed);
        chunk(&mut file, *b"IEND", &[]);
        file
    }
}

fn chunk(file: &mut Vec<u8>, kind: [u8; 4], body: &[u8]) {
    file.extend((body.len() as u32).to_be_bytes());
    let from = file.len();
    file.extend(kind);
    file.extend(body);
    let sum = crc32fast::hash(file.get(from..).unwrap_or_default());
    file.extend(sum.to_be_bytes());
}

/// A letter of five by seven dots, row by row.
const fn glyph(letter: char) -> [u8; 7] {
    match letter {
        'A' => [14, 17, 17, 31, 17, 17, 17],
        'B' => [30, 17, 17, 30, 17, 17, 30],
        'C' => [14, 17, 16, 16, 16, 17, 14],
        'D' => [30, 17, 17, 17, 17, 17, 30],
        'E' => [31, 16, 16, 30, 16, 16, 31],
        'F' => [31, 16, 16, 30, 16, 16, 16],
        'G' => [14, 17, 16, 23, 17, 17, 15],
        'I' => [14, 4, 4, 4, 4, 4, 14],
        'J' => [7, 2, 2, 2, 2, 18, 12],
        'K' => [17, 18, 20, 24, 20, 18, 17],
        'L' => [16, 16, 16, 16, 16, 16, 31],
        'M' => [17, 27, 21, 21, 17, 17, 17],
        'N' => [17, 25, 21, 19, 17, 17, 17],
        'O' => [14, 17, 17, 17, 17, 17, 14],
        'P' => [30, 17, 17, 30, 16, 16, 16],
        'Q' => [14, 17, 17, 17, 21, 18, 13],
        'R' => [30, 17, 17, 30, 20, 18, 17],
        'S' => [15, 16, 16, 14, 1, 1, 30],
        'T' => [31, 4, 4, 4, 4, 4, 4],
        'U' => [17, 17, 17, 17, 17, 17, 14],
        'V' => [17, 17, 17, 17, 17, 10, 4],
        'Y' => [17, 17, 10, 4, 4, 4, 4],
        '0' => [14, 17, 19, 21, 25, 17, 14],
        '1' => [4, 12, 4, 4, 4, 4, 14],
        '2' => [14, 17, 1, 2, 4, 8, 31],
        '3' => [31, 2, 4, 2, 1, 17, 14],
        '4' => [2, 6, 10, 18, 31, 2, 2],
        '5' => [31, 16, 30, 1, 1, 17, 14],
        '6' => [6, 8, 16, 30, 17, 17, 14],
        '7' => [31, 1, 2, 4, 8, 8, 8],
        '8' => [14, 17, 17, 14, 17, 17, 14],
        '9' => [14, 17, 17, 15, 1, 2, 12],
        '%' => [24, 25, 2, 4, 8, 19, 3],
        '-' => [0, 0, 0, 31, 0, 0, 0],
        '.' => [0, 0, 0, 0, 0, 12, 12],
        _ => [0; 7],
    }
}
