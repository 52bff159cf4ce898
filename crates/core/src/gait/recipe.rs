//! Which windows a network reads.

/// Rows of a window: forward, lateral, vertical and magnitude of acceleration without gravity,
/// then four that depend on [`Rows`].
pub const WINDOW_ROWS: usize = 8;

/// How the rows of a window are computed. A model file names the way that its network was trained
/// with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Acceleration, then angular rate or, without a gyroscope, jerk. The scale is fixed, so the
    /// amplitude of a walk is kept.
    TurnedAxes1,
    /// Acceleration, then jerk, each divided by its root mean square over the window. The gyroscope
    /// is ignored. The amplitude of a walk is left out, because it depends on the phone and on the
    /// pocket.
    TurnedAxes2,
}

impl Rows {
    const ALL: [Self; 2] = [Self::TurnedAxes1, Self::TurnedAxes2];

    /// The name in a model file.
    pub fn name(self) -> &'static str {
        match self {
            Self::TurnedAxes1 => "turned-axes-1",
            Self::TurnedAxes2 => "turned-axes-2",
        }
    }

    /// The rows with this name. `None` if this version does not know it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rows| rows.name() == name)
    }

    /// All names, as an error message lists them.
    pub fn names() -> String {
        Self::ALL.map(|rows| format!("{:?}", rows.name())).join(" or ")
    }

    /// Whether angular rates change the rows.
    pub fn read_gyroscope(self) -> bool {
        self == Self::TurnedAxes1
    }
}

/// How windows are cut for one network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Sample rate that the network expects.
    pub rate_hz: f64,
    /// Samples of one window.
    pub samples: usize,
    /// How the rows are computed.
    pub rows: Rows,
}

impl Recipe {
    /// BiPedalNet's windows: two seconds at 50 Hz.
    pub const BIPEDALNET: Self = Self { rate_hz: 50.0, samples: 100, rows: Rows::TurnedAxes1 };
    /// IDNet's windows: two seconds at 100 Hz.
    pub const IDNET: Self = Self { rate_hz: 100.0, samples: 200, rows: Rows::TurnedAxes1 };
    /// Windows of the open-set network: two seconds at 50 Hz.
    pub const OPENSET: Self = Self { rows: Rows::TurnedAxes2, ..Self::BIPEDALNET };

    /// The recipe for a network that reads `input`, rows x samples, and calls its rows `rows` in its
    /// file. `None` if this version cannot cut these windows.
    pub fn for_input(rows: &str, rate_hz: f64, input: [usize; 2]) -> Option<Self> {
        let [count, samples] = input;
        let rows = Rows::named(rows).filter(|_| count == WINDOW_ROWS && samples >= 2)?;
        Some(Self { rate_hz, samples, rows })
    }

    /// Duration of one window.
    pub fn window_seconds(self) -> f64 {
        self.samples as f64 / self.rate_hz
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_needs_known_rows() {
        for recipe in [Recipe::BIPEDALNET, Recipe::IDNET, Recipe::OPENSET] {
            let input = [WINDOW_ROWS, recipe.samples];
            let found = Recipe::for_input(recipe.rows.name(), recipe.rate_hz, input);
            assert_eq!(found, Some(recipe));
        }
        assert_eq!(Recipe::for_input("turned-axes-3", 50.0, [WINDOW_ROWS, 100]), None);
        assert_eq!(Recipe::for_input("turned-axes-1", 50.0, [7, 100]), None);
        assert_eq!(Recipe::for_input("turned-axes-1", 50.0, [WINDOW_ROWS, 1]), None);
    }
}
