//! Reads the file of weights in place: matrices stay int8 where they are, only scales and vectors
//! are copied out. The layout is told in `model/build.py`.

use super::BadModel;

const MAGIC: &[u8] = b"HALEMLM2";

/// What the file holds: the sizes, the vocabulary, and a cursor over the tensors.
pub(super) struct Weights {
    /// One token a line, in the order of their ids.
    pub(super) vocabulary: &'static str,
    pub(super) tokens: usize,
    pub(super) positions: usize,
    pub(super) hidden: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) intermediate: usize,
    tensors: &'static [u8],
}

/// A matrix of int8 rows, each with the scale that gives its values.
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) scales: Vec<f32>,
    pub(super) columns: usize,
    rows: &'static [u8],
}

impl Matrix {
    /// One row's bytes: each is an `i8`.
    pub(super) fn row(&self, index: usize) -> &'static [u8] {
        let start = index * self.columns;
        self.rows.get(start..start + self.columns).unwrap_or(&[])
    }
}

/// The table of words: rows of 4 bits a value, scaled by groups.
#[derive(Debug)]
pub(super) struct Table {
    units: Vec<f32>,
    columns: usize,
    multipliers: &'static [u8],
    rows: &'static [u8],
}

/// Values of a row that share a scale.
const GROUP: usize = 16;

impl Table {
    /// Adds a row to `to`; nothing if there is no such row.
    pub(super) fn add(&self, index: usize, to: &mut [f32]) {
        let (groups, bytes) = (self.columns / GROUP, self.columns / 2);
        let multipliers = self.multipliers.get(index * groups..(index + 1) * groups);
        let row = self.rows.get(index * bytes..(index + 1) * bytes);
        let (Some(unit), Some(multipliers), Some(row)) = (self.units.get(index), multipliers, row)
        else {
            return;
        };
        let parts = to.chunks_exact_mut(GROUP).zip(row.chunks_exact(GROUP / 2));
        for ((to, row), multiplier) in parts.zip(multipliers) {
            let scale = unit * f32::from(*multiplier);
            for (pair, bits) in to.chunks_exact_mut(2).zip(row) {
                pair[0] += scale * (f32::from(bits & 15) - 8.0);
                pair[1] += scale * (f32::from(bits >> 4) - 8.0);
            }
        }
    }
}

/// Takes parts off the front of the file.
pub(super) struct Cursor(&'static [u8]);

impl Cursor {
    fn take(&mut self, bytes: usize) -> Result<&'static [u8], BadModel> {
        let (head, tail) = self
            .0
            .split_at_checked(bytes)
            .ok_or(BadModel("it ends early"))?;
        self.0 = tail;
        Ok(head)
    }

    fn number(&mut self) -> Result<usize, BadModel> {
        let bytes = self.take(4)?;
        let bytes = bytes
            .try_into()
            .map_err(|_| BadModel("a number is cut off"))?;
        Ok(u32::from_le_bytes(bytes) as usize)
    }

    /// The next `length` floats.
    pub(super) fn vector(&mut self, length: usize) -> Result<Vec<f32>, BadModel> {
        let bytes = self.take(length * 4)?;
        let (values, _) = bytes.as_chunks::<4>();
        Ok(values.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    /// The next matrix.
    pub(super) fn matrix(&mut self, rows: usize, columns: usize) -> Result<Matrix, BadModel> {
        Ok(Matrix {
            scales: self.vector(rows)?,
            columns,
            rows: self.take(rows * columns)?,
        })
    }

    /// The table of words.
    pub(super) fn table(&mut self, rows: usize, columns: usize) -> Result<Table, BadModel> {
        if !columns.is_multiple_of(GROUP) {
            return Err(BadModel("its rows are no whole groups"));
        }
        Ok(Table {
            units: self.vector(rows)?,
            columns,
            multipliers: self.take(rows * columns / GROUP)?,
            rows: self.take(rows * columns / 2)?,
        })
    }

    /// Whether everything was taken.
    pub(super) fn finished(&self) -> Result<(), BadModel> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(BadModel("it is longer than its sizes say"))
        }
    }
}

impl Weights {
    /// Checks the head and splits off the vocabulary.
    pub(super) fn read(file: &'static [u8]) -> Result<Self, BadModel> {
        let mut cursor = Cursor(file);
        if cursor.take(MAGIC.len())? != MAGIC {
            return Err(BadModel("it is of another version"));
        }
        let mut sizes = [0; 7];
        for size in &mut sizes {
            *size = cursor.number()?;
        }
        let [
            tokens,
            positions,
            hidden,
            layers,
            heads,
            intermediate,
            bytes,
        ] = sizes;
        if heads == 0 || hidden % heads != 0 || positions < 2 || hidden != super::DIMENSIONS {
            return Err(BadModel("its sizes are impossible"));
        }
        let vocabulary = cursor.take(bytes.next_multiple_of(4))?;
        let vocabulary = std::str::from_utf8(&vocabulary[..bytes])
            .map_err(|_| BadModel("its vocabulary is no UTF-8"))?;
        Ok(Self {
            vocabulary,
            tokens,
            positions,
            hidden,
            layers,
            heads,
            intermediate,
            tensors: cursor.0,
        })
    }

    /// A cursor at the first tensor.
    pub(super) fn tensors(&self) -> Cursor {
        Cursor(self.tensors)
    }
}
