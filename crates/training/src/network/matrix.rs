//! A safe interface to the matrix product.

use gemm_common::Parallelism;

/// A matrix inside a slice. Rows may overlap, as the windows of a convolution do.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a> View<'a> {
    /// A plain row-major matrix.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    fn span(&self) -> usize {
        span(self.rows, self.columns, self.row_stride, self.column_stride)
    }
}

/// Length of the slice that a matrix covers.
fn span(rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> usize {
    if rows == 0 || columns == 0 {
        return 0;
    }
    // Saturated spans fit no slice.
    let last_row = (rows - 1).saturating_mul(row_stride);
    let last_column = (columns - 1).saturating_mul(column_stride);
    last_row.saturating_add(last_column).saturating_add(1)
}

/// Computes `out = a b`, or `out += a b` if `accumulate` is set. `out` is row-major, with rows
/// `out_stride` apart.
///
/// # Panics
/// If shapes do not match or a matrix does not fit its slice.
pub fn multiply(out: &mut [f32], out_stride: usize, a: View<'_>, b: View<'_>, accumulate: bool) {
    assert_eq!(a.columns, b.rows);
    assert!(out_stride >= b.columns, "rows of the product must not overlap");
    assert!(a.span() <= a.data.len() && b.span() <= b.data.len());
    assert!(span(a.rows, b.columns, out_stride, 1) <= out.len());
    // SAFETY: the spans asserted above are every element that the strides reach; `out` is
    // borrowed mutably, so it overlaps neither input, and its rows do not overlap one another.
    unsafe {
        // As the transposed product, because the kernels prefer a column-major `out`.
        gemm_f32::gemm::f32::get_gemm_fn()(
            b.columns,
            a.rows,
            a.columns,
            out.as_mut_ptr(),
            out_stride as isize,
            1,
            accumulate,
            b.data.as_ptr(),
            b.row_stride as isize,
            b.column_stride as isize,
            a.data.as_ptr(),
            a.row_stride as isize,
            a.column_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
