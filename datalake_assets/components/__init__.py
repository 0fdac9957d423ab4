from datalake_assets.components.api_dataset import ApiDataset as ApiDataset
from datalake_assets.components.dated_view import DatedView as DatedView
from datalake_assets.components.url_files import UrlFiles as UrlFiles
