"""Formats of files of rows, one module each: its reader and its writer.

A reader reads rows of points. It has

- `inputs`: list of the inputs of the function that it reads values of, each
  with a name, dtype and shape;
- `batch_forms`: list of how a row of each becomes a value, "bare", "many" or
  "one" (`row_layout.batch_form_of`); None as long as no row was read that shows
  it;
- `count`: int, the number of rows; None where it is not known before the end;
- `read(start, end)`: a `row_layout.Block`, with fewer rows at the end; where
  `count` is None it is called for one block after the other, and `position` is
  the number of rows that were read or skipped so far;
- `estimate_count()`: an estimate of the number of rows, or None;
- `source_files`: list of the `files.SourceFile` that the rows come from; None
  where they come from memory;
- `is_stopped`: bool, may be set while `read` is called in another thread; it
  then ends soon, with rows that nobody uses;
- `close()`.

A writer appends rows of results. It has

- `begin(results)`: creates the files, for results of these shapes and dtypes;
- `resume(state)`: opens them as they were when `write` returned `state`;
- `write(results)`: appends rows; returns the state after that, a dict that JSON
  can hold;
- `sync()`: waits until all rows that were appended are on the disk;
- `finish(count)`: completes the files, which have `count` rows; returns a list
  of [path, final path], where the final path of a file to delete is None;
- `close()`;
- `discard()`: deletes the files, which are not complete.
"""
