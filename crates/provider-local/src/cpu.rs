//! Whether this processor can run the engine at all: its code is compiled for AVX2 and its companions, and would stop the
//! whole process with an illegal instruction elsewhere.

/// A sentence that says what is missing.
pub(crate) fn check() -> Result<(), String> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the embedded model needs a processor with {}; use a machine from 2013 or later, or remove the provider of kind local",
        missing.join(", ")
    ))
}

#[cfg(target_arch = "x86_64")]
fn missing() -> Vec<&'static str> {
    let have = [
        ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
        ("FMA", std::arch::is_x86_feature_detected!("fma")),
        ("F16C", std::arch::is_x86_feature_detected!("f16c")),
        ("BMI2", std::arch::is_x86_feature_detected!("bmi2")),
    ];
    have.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn missing() -> Vec<&'static str> {
    Vec::new()
}
