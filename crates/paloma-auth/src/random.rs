//! Random bytes from the system.

use ring::rand::{SecureRandom, SystemRandom};

use crate::Fault;

/// `N` random bytes.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Fault::NoRandomness)?;
    Ok(bytes)
}

/// Eight random hexadecimal digits.
pub(crate) fn hex8() -> Result<String, Fault> {
    let bytes = bytes::<4>()?;
    Ok(format!("{:08x}", u32::from_be_bytes(bytes)))
}
