"""Formats of files of rows, one module each: its reader and its writer.

A reader gives rows of points. It has

- `inputs`: list of what it has values of, each with a name, dtype and shape;
- `batch_forms`: list of how a row of each becomes a value
  (`row_layout.batch_form_of`);
- `count`: the number of rows, or None where it is not known before the end;
- `read(start, end)`: a `row_layout.Block`, with fewer rows at the end; where
  `count` is None it is called for one block after the other, and `position` is
  the number of rows that it has passed;
- `about()`: an estimate of the number of rows, or None;
- `fingerprint()`: list of bytes that tell these rows from others;
- `close()`.

A writer appends rows of results. It has

- `begin(results)`: makes the files, for results such as these;
- `resume(state)`: opens them as they were when `state` was returned;
- `write(results)`: appends; returns its state, which JSON can hold;
- `finish(count)`: completes them; returns a list of [path, final path], None
  for a file that is to go;
- `close()`.
"""
