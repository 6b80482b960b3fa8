//! Text that is safe to show on a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Replaces control characters, which would move the cursor, change colors or clear the screen, and
/// bytes that are not UTF-8. Line feeds stay.
pub fn visible(text: &[u8]) -> Cow<'_, [u8]> {
    let is_hidden = |letter: char| letter.is_control() && letter != '\n';
    if str::from_utf8(text).is_ok_and(|text| !text.contains(is_hidden)) {
        return text.into();
    }
    let mut visible = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if is_hidden(letter) {
                visible.extend(letter.escape_default());
            } else {
                visible.push(letter);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a `String` does not fail.
            let _ = write!(visible, "\\x{byte:02x}");
        }
    }
    visible.into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_bytes_that_are_not_utf_8_are_escaped() {
        let shown = |text: &[u8]| String::from_utf8(visible(text).into_owned()).unwrap();
        assert_eq!(shown("caf\u{e9} \\ x\n".as_bytes()), "caf\u{e9} \\ x\n");
        assert_eq!(shown(b"a\x1b[31mb\x7f\r\t"), "a\\u{1b}[31mb\\u{7f}\\r\\t");
        assert_eq!(shown("\u{9b}2J".as_bytes()), "\\u{9b}2J");
        assert_eq!(shown(b"a\xffb\x9b"), "a\\xffb\\x9b");
    }
}
