//! Reads whole packets from a non-blocking socket through a buffer that all connections of a thread share.

use std::io::{self, Read};

use crate::error::LoadError;
use crate::packet::{self, Frame, Scan};

/// Size a shared buffer starts with.
const SCRATCH_BYTES: usize = 256 * 1024;

/// The buffer of one thread. A connection keeps only the start of a packet that is not whole yet.
#[derive(Debug)]
pub(crate) struct Scratch {
    bytes: Vec<u8>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; SCRATCH_BYTES],
        }
    }

    /// Reads until the socket has nothing left and hands on every whole packet.
    ///
    /// With `is_emptied_by_short_read`, a read that does not fill the buffer has emptied the socket; the next byte raises a new
    /// event.
    pub(crate) fn read(
        &mut self,
        socket: &mut impl Read,
        is_emptied_by_short_read: bool,
        partial: &mut Vec<u8>,
        mut handle: impl FnMut(&Frame<'_>) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        loop {
            let Some(filled) = self.fill(socket, partial)? else {
                return Ok(());
            };
            let input = self.bytes.get(..filled).unwrap_or(&[]);
            let rest = each_frame(input, &mut handle)?;
            partial.extend_from_slice(rest);
            if is_emptied_by_short_read && filled < self.bytes.len() {
                return Ok(());
            }
        }
    }

    /// Reads once, behind the start of a packet left over from before; `None` when there is nothing to read.
    fn fill(
        &mut self,
        socket: &mut impl Read,
        partial: &mut Vec<u8>,
    ) -> Result<Option<usize>, LoadError> {
        let kept = partial.len();
        if self.bytes.len() < kept * 2 {
            self.bytes.resize(kept * 2, 0);
        }
        let (start, free) = self.bytes.split_at_mut(kept);
        start.copy_from_slice(partial);
        loop {
            match socket.read(free) {
                Ok(0) => return Err(LoadError::Closed),
                Ok(read) => {
                    partial.clear();
                    return Ok(Some(kept + read));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Hands on every whole packet and returns the start of the one that is not.
pub(crate) fn each_frame(
    mut rest: &[u8],
    mut handle: impl FnMut(&Frame<'_>) -> Result<(), LoadError>,
) -> Result<&[u8], LoadError> {
    loop {
        match packet::scan(rest) {
            Scan::Whole(frame) => {
                handle(&frame)?;
                rest = rest.get(frame.whole.len()..).unwrap_or(&[]);
            }
            Scan::Partial => return Ok(rest),
            Scan::Malformed => return Err(LoadError::Protocol),
        }
    }
}
