"""COCO annotations that are checked while they are read."""
import json

from mmdet.datasets.api_wrappers import COCO

from coma_mm.errors import UserError


class CheckedCOCO(COCO):
    """mmdet's reader of COCO annotations, which names what is missing or out of range instead of passing over it.

    Args:
        annotation_file (str): The JSON file.

    Raises:
        UserError: The file is not JSON; a list or a box is missing; a category is not in the file's list of categories.
    """

    def __init__(self, annotation_file):
        self.annotation_file = annotation_file
        try:
            super().__init__(annotation_file)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f'{annotation_file} is damaged, or not a JSON file ({error}); expected COCO '
                            'annotations') from error

    def createIndex(self):
        """Check, and index as the parent does."""
        for key in ('images', 'annotations', 'categories'):
            if not isinstance(self.dataset.get(key), list):
                raise UserError(f'{self.annotation_file} has no list {key!r}; expected COCO annotations, with images, '
                                'annotations and categories')
        categories = {category['id'] for category in self.dataset['categories']}
        for annotation in self.dataset['annotations']:
            where = (f'{self.annotation_file}: annotation {annotation.get("id", "?")} of image '
                     f'{annotation.get("image_id", "?")}')
            if len(annotation.get('bbox') or ()) != 4:
                raise UserError(f'{where} has no bbox; expected [x, y, width, height] in px')
            if annotation.get('category_id') not in categories:
                raise UserError(f'{where} has category_id {annotation.get("category_id")}; expected one of the '
                                f'{len(categories)} ids in its categories')
        super().createIndex()
