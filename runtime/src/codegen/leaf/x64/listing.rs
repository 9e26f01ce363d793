//! Instructions as text.

use iced_x86::{Decoder, DecoderOptions, DefaultFastFormatterTraitOptions, SpecializedFormatter};

/// Appends the instruction that is in `bytes` from `start` on, a line.
pub fn list(bytes: &[u8], start: usize, listing: &mut String) {
    let instruction = Decoder::with_ip(64, &bytes[start..], start as u64, DecoderOptions::NONE).decode();
    listing.push_str("    ");
    SpecializedFormatter::<DefaultFastFormatterTraitOptions>::new().format(&instruction, listing);
    listing.push('\n');
}
