//! How good it sounded: the E-model of ITU-T G.107, narrow-band.

/// What the E-model needs to know of a codec (ITU-T G.113 appendix I).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impairment {
    /// Equipment impairment without loss, `Ie`.
    pub equipment: f32,
    /// Robustness against loss, `Bpl`.
    pub loss_robustness: f32,
}

impl Impairment {
    /// G.711 whose losses are heard as gaps.
    pub const G711: Self = Self { equipment: 0.0, loss_robustness: 4.3 };
    /// G.711 with packet loss concealment after its appendix I.
    pub const G711_CONCEALED: Self = Self { equipment: 0.0, loss_robustness: 25.1 };
    /// G.722 at 64 kb/s, concealed. G.107.1 rates it on a scale that is 1.29 times as long, 129 less 13 (G.113
    /// appendix IV), which is said here on that of G.107. For its robustness there is no published figure.
    pub const G722: Self = Self { equipment: 3.3, loss_robustness: 10.0 };
    /// Opus at 16 kHz and 24 kb/s, with its own concealment and in-band correction: an estimate. The ITU has published no
    /// figure, and nobody one for this band at this rate. AMR-WB at 23.85 kb/s, of the same band and rate, is given 8 on the
    /// long scale of G.107.1 (G.113 appendix IV), which is nothing on that of G.107; Opus of 8 kHz at 11 kb/s is given 2 on
    /// that. The robustness lies between those of Opus with 8 kHz of band at 13 kb/s, 19.5, and 12 kHz at 25 kb/s, 11.3, both
    /// for random loss (Alahmadi, Pocta, Melvin, ACM TOMM 17(4), article 133, 2021, doi 10.1145/3458751, table of its authors' program).
    pub const OPUS: Self = Self { equipment: 0.0, loss_robustness: 15.0 };
    /// Linear audio of 16 bits, with our concealment: nothing is lost but packets, as of G.711.
    pub const LINEAR: Self = Self { equipment: 0.0, loss_robustness: 25.1 };
    /// G.729A with voice activity detection.
    pub const G729A: Self = Self { equipment: 11.0, loss_robustness: 19.0 };
}

/// What one direction of a call suffered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// The codec.
    pub impairment: Impairment,
    /// Packets that were not played, lost or late, in percent of those expected.
    pub loss_percent: f32,
    /// Mean length of a burst of loss over that of random loss; 1 is random.
    pub burst_ratio: f32,
    /// One-way delay from mouth to ear, in ms. 0 gives the listening quality (MOS-LQ).
    pub delay_ms: f32,
}

/// The rating R with the default values of G.107 for all that is not known here.
#[must_use]
pub fn rating(conditions: &Conditions) -> f32 {
    93.2 - delay_impairment(conditions.delay_ms) - loss_impairment(conditions)
}

/// The mean opinion score, 1.0 to 4.5 (G.107 annex B).
#[must_use]
pub fn mos(conditions: &Conditions) -> f32 {
    mos_of(rating(conditions))
}

/// The mean opinion score of a rating R.
#[must_use]
pub fn mos_of(r: f32) -> f32 {
    if r <= 6.5 {
        1.0
    } else if r >= 100.0 {
        4.5
    } else {
        (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0)
    }
}

/// Share of packets that were not played, in percent; 0 when none was expected.
#[must_use]
pub fn loss_percent(expected: u64, lost: u64, late: u64) -> f32 {
    if expected == 0 {
        return 0.0;
    }
    let missing = lost.saturating_add(late).min(expected);
    (missing as f64 * 100.0 / expected as f64) as f32
}

/// `Id` without echo: the full formula of G.107 for `Idd`.
fn delay_impairment(delay_ms: f32) -> f32 {
    if delay_ms <= 100.0 {
        return 0.0;
    }
    let x = (delay_ms / 100.0).log2();
    let sixth = |value: f32| (1.0 + value.powi(6)).powf(1.0 / 6.0);
    25.0 * (sixth(x) - 3.0 * sixth(x / 3.0) + 2.0)
}

/// `Ie,eff`.
fn loss_impairment(conditions: &Conditions) -> f32 {
    let Impairment { equipment, loss_robustness } = conditions.impairment;
    let loss = conditions.loss_percent.clamp(0.0, 100.0);
    let burst = conditions.burst_ratio.max(1.0);
    equipment + (95.0 - equipment) * loss / (loss / burst + loss_robustness)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opinion scores for 0, 1, 2, 5 and 10 % of random loss.
    fn check(impairment: Impairment, expected: [f32; 5]) {
        for (loss_percent, expected) in [0.0, 1.0, 2.0, 5.0, 10.0].into_iter().zip(expected) {
            let mos =
                mos(&Conditions { impairment, loss_percent, burst_ratio: 1.0, delay_ms: 0.0 });
            assert!((mos - expected).abs() < 0.006, "{loss_percent} %: {mos}, not {expected}");
        }
    }

    #[test]
    fn loss_costs_what_the_tables_say() {
        check(Impairment::G711_CONCEALED, [4.41, 4.33, 4.23, 3.92, 3.41]);
        check(Impairment::G711, [4.41, 3.83, 3.26, 2.17, 1.48]);
        check(Impairment::G722, [4.34, 4.08, 3.81, 3.07, 2.27]);
        check(Impairment::G729A, [4.10, 3.95, 3.79, 3.34, 2.75]);
    }

    #[test]
    fn delay_costs_what_the_tables_say() {
        for (delay, expected) in
            [(0.0, 0.0), (100.0, 0.0), (150.0, 0.2), (200.0, 3.0), (300.0, 14.8), (400.0, 24.1)]
        {
            let impairment = delay_impairment(delay);
            assert!((impairment - expected).abs() < 0.06, "{delay} ms: {impairment}");
        }
    }

    #[test]
    fn senseless_figures_stay_within_the_scale() {
        for loss_percent in [-5.0, 0.0, 100.0, 1e9] {
            for delay_ms in [-1.0, 0.0, 1e9] {
                let impairment = Impairment::G711;
                let mos = mos(&Conditions { impairment, loss_percent, burst_ratio: 0.0, delay_ms });
                assert!((1.0..=4.5).contains(&mos), "{mos}");
            }
        }
        assert!((loss_percent(0, 5, 5)).abs() < f32::EPSILON);
        assert!((loss_percent(200, 1, 1) - 1.0).abs() < 1e-6);
        assert!((loss_percent(2, 10, 1) - 100.0).abs() < 1e-6);
    }
}
