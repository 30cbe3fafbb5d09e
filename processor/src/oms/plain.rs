//! An OMS's words as they may be kept and shown.

/// An OMS's words, cut, without what may be a person's: words with an `@`, and long numbers.
pub fn plain(words: &str, most: usize) -> String {
    let personal =
        |word: &str| word.contains('@') || word.chars().filter(char::is_ascii_digit).count() > 6;
    let kept: Vec<_> =
        words.split_whitespace().map(|word| if personal(word) { "..." } else { word }).collect();
    kept.join(" ").chars().filter(|c| !c.is_control()).take(most).collect()
}
