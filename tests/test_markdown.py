from coma_mm.markdown import markdown_table


def test_padded_for_a_terminal_it_is_the_same_table():
    header, rows = ['task', 'metric, %', 'from CoMA'], [['Segmentation', 'mIoU', '7.0'], ['A', '', '+10.0']]
    assert markdown_table(header, rows, numbers=1).splitlines() == [
        '| task | metric, % | from CoMA |',
        '| --- | --- | ---: |',
        '| Segmentation | mIoU | 7.0 |',
        '| A |  | +10.0 |']
    assert markdown_table(header, rows, numbers=1, aligned=True).splitlines() == [
        '| task         | metric, % | from CoMA |',
        '| ------------ | --------- | --------: |',
        '| Segmentation | mIoU      |       7.0 |',
        '| A            |           |     +10.0 |']
